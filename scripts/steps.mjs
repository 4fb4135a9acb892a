// Shared by the build scripts: running programs and comparing file times. No packages, because these scripts run before
// node_modules exists.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Runs a program with inherited output. Ends this process with its exit code on failure. */
export function run(program, args, options = {}) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', ...options })
  if (status === 0) return
  console.error(
    `billfish: ${[program, ...args].join(' ')} failed${error ? `: ${error.message}` : ` with exit code ${status}`}`,
  )
  process.exit(status || 1)
}

/** The output of a program, or null if it is missing or fails. */
export function output(program, args) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  return status === 0 ? stdout + stderr : null
}

/** The modification time of a file in milliseconds, 0 if it does not exist. */
export function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** The newest modification time of files and folders, recursively; a removed file shows in its folder's time. */
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
