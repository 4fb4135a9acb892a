// Checks in scripts: each prints one line and is counted.
import { spawnSync } from 'node:child_process'

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
