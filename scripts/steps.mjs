// Running programs and comparing file times: what the build scripts share. Plain Node without packages, because these
// scripts run before node_modules exists.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Runs a program with its output on this terminal. Ends this process with the program's exit code when it fails. */
export function run(program, args, options = {}) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', ...options })
  if (status === 0) return
  console.error(
    `billfish: ${[program, ...args].join(' ')} failed${error ? `: ${error.message}` : ` with exit code ${status}`}`,
  )
  process.exit(status || 1)
}

/** What a program prints, or null when it is not there or fails. */
export function output(program, args) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  return status === 0 ? stdout + stderr : null
}

/** The modification time of a file in milliseconds, 0 when there is none. */
export function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** The newest modification time under the given files and folders; a removed file shows in its folder's time. */
export function newest(paths) {
  let time = 0
  for (const path of paths) {
    if (!existsSync(path)) continue
    time = Math.max(time, modified(path))
    if (!statSync(path).isDirectory()) continue
    time = Math.max(time, newest(readdirSync(path).map((name) => join(path, name))))
  }
  return time
}
