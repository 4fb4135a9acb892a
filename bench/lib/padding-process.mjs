/** Padding in a process of its own, measured, or killed at some moment. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { repository } from './machine.mjs'

const program = `
  const { padCheckpoint } = require(${JSON.stringify(join(repository, 'dist', 'index.js'))})
  const [source, output, options] = process.argv.slice(1)
  const begin = performance.now()
  const now = () => ({ seconds: (performance.now() - begin) / 1000, cpu: process.cpuUsage() })
  const cpuSeconds = ({ user, system }) => (user + system) / 1e6
  let written
  const onProgress = ({ phase }) => { if (phase === 'verifying') written ??= now() }
  const started = now()
  padCheckpoint(source, output, { ...JSON.parse(options), onProgress }).then((result) => {
    const end = now()
    written ??= end
    const [, peak] = /VmHWM:\\s+(\\d+) kB/.exec(require('node:fs').readFileSync('/proc/self/status', 'utf8'))
    console.log(JSON.stringify({
      writing: written.seconds,
      writingCpu: cpuSeconds(written.cpu) - cpuSeconds(started.cpu),
      verifying: end.seconds - written.seconds,
      verifyingCpu: cpuSeconds(end.cpu) - cpuSeconds(written.cpu),
      peakBytes: peak * 1024,
      result,
    }))
  })`

const line = (source, output, options) => ['-e', program, source, output, JSON.stringify(options)]

/**
 * @returns seconds, and seconds of processor time, of writing (until all is on disk) and of verifying; the largest resident
 *   set in bytes; and padCheckpoint's result
 */
export function pad(source, output, options) {
  const { stdout, stderr, status } = spawnSync(process.execPath, line(source, output, options), { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

/** Kills the process, as with `kill -9`, after so many seconds. @returns whether it was still at work */
export async function padAndKill(source, output, options, seconds) {
  const child = spawn(process.execPath, line(source, output, options), { stdio: 'ignore' })
  const exited = once(child, 'exit')
  await Promise.race([sleep(seconds * 1000), exited])
  child.kill('SIGKILL')
  const [, signal] = await exited
  return signal === 'SIGKILL'
}
