import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hostileTokenizers } from '../support/hostile-tokenizers'

const packagePath = resolve(__dirname, '../../dist/index.js')

/** What became of one directory, in a process of its own. */
interface Report {
  readonly outcomes: readonly string[]
  readonly milliseconds: number
  /** The longest that its event loop was held, in CPU time. */
  readonly held: number
  readonly megabytes: number
}

/** Loads the directory that it is sent, encodes, aborts, and tells what happened. */
const program = `const { loadTokenizer, BillfishError } = require(${JSON.stringify(packagePath)})
  const { readFileSync, existsSync } = require('node:fs')
  const schedule = '/proc/self/task/' + process.pid + '/schedstat'
  const clock = existsSync(schedule) ? () => Number(readFileSync(schedule, 'latin1').split(' ')[0]) / 1e6 : () => performance.now()
  let last = clock(), held = 0, megabytes = 0
  setInterval(() => {
    const now = clock()
    held = Math.max(held, now - last)
    last = now
    megabytes = Math.max(megabytes, process.memoryUsage.rss() / 1e6)
  }, 1)
  const name = (error) => error instanceof BillfishError ? error.code : String(error)
  process.on('message', async (directory) => {
    await new Promise((turn) => setTimeout(turn, 5))
    held = megabytes = 0
    const outcomes = [], started = performance.now()
    const attempt = (work) => work().then(() => outcomes.push('ok'), (error) => outcomes.push(name(error)))
    let tokenizer
    await attempt(async () => { tokenizer = await loadTokenizer(directory) })
    if (tokenizer) {
      await attempt(() => tokenizer.encode('a'.repeat(60) + '!'))
      outcomes.push('decoded ' + tokenizer.decode([3, 4, 5]).length)
      await tokenizer.dispose()
    }
    const milliseconds = performance.now() - started
    await new Promise((turn) => setTimeout(turn, 5))
    process.send({ outcomes, milliseconds, held, megabytes })
  })`

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'billfish-hostile-'))
})
afterAll(() => rm(directory, { recursive: true }))

function report(place: string): Promise<Report> {
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  return new Promise<Report>((settle, fail) => {
    child.once('exit', (code, signal) => fail(new Error(`the process ended: ${code ?? signal}`)))
    child.once('message', (message) => settle(message as Report))
    child.send(place)
  }).finally(() => child.kill())
}

test.each(Object.entries(hostileTokenizers))(
  '%s: a result or an error, soon and in little memory',
  async (name, files) => {
    const place = await mkdtemp(join(directory, 'case-'))
    for (const [file, content] of Object.entries(files())) {
      await writeFile(join(place, file), typeof content === 'string' ? content : JSON.stringify(content))
    }
    const { outcomes, milliseconds, held, megabytes } = await report(place)
    for (const outcome of outcomes) expect(outcome).toMatch(/^(ok|decoded \d+|INVALID_CHECKPOINT)$/)
    expect(milliseconds, 'milliseconds').toBeLessThan(6000)
    // The strings of a large file are read in pieces; a Map of half a million tokens cannot be made in pieces.
    expect(held, 'held').toBeLessThan(name.startsWith('forty megabytes') ? 40 : 100)
    expect(megabytes, 'megabytes').toBeLessThan(512)
  },
  30_000,
)
