import { readFileSync } from 'node:fs'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, test } from 'vitest'
import { BillfishError } from '../../src/common/errors'
import { cpuTime, ownSchedstatPath } from '../../src/generation/cpu-time'
import { isLong, MAX_SYNCHRONOUS_BYTES } from '../../src/generation/long-text'
import { TextWorker } from '../../src/generation/text-worker'
import { loadTokenizer } from '../../src/generation/tokenizer'
import { Random } from '../support/random.cjs'

const demo = resolve(__dirname, '../../examples/demo-model')
const fixtures = resolve(__dirname, '../fixtures/generation')
const disposed = new BillfishError('DISPOSED', 'closed by the test')
/** Takes a tenth of a second or more. */
const slow = { text: 'lorem ipsum dolor sit amet '.repeat(10_000), addSpecialTokens: true }
const quick = { text: 'Hello', addSpecialTokens: true }

const open: TextWorker[] = []
const workerOf = (directory: string) => {
  const textWorker = new TextWorker({ file: join(directory, 'tokenizer.json') })
  open.push(textWorker)
  return textWorker
}
afterEach(() => Promise.all(open.splice(0).map((textWorker) => textWorker.close(disposed))))

const threadOf = (textWorker: TextWorker) => textWorker.thread

/** A SentencePiece-like tokenizer that puts `<s>` before a text. */
async function withLeadingToken(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'billfish-encoder-'))
  const json = {
    added_tokens: [{ id: 0, content: '<s>', special: true }],
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [0], tokens: ['<s>'] } },
    },
    decoder: { type: 'Metaspace' },
    model: { type: 'BPE', vocab: { '<s>': 0, a: 1, '▁': 2, '▁a': 3, '<u>': 4 }, merges: ['▁ a'], unk_token: '<u>' },
  }
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(json))
  return directory
}

/** Texts of up to 60 characters of all planes, halves of surrogate pairs and special tokens among them. */
function randomTexts(count: number): string[] {
  const numbers = new Random(11)
  const random = (below: number) => numbers.below(below)
  const kinds: (() => string)[] = [
    () => String.fromCharCode(0x20 + random(95)),
    () => String.fromCharCode(random(0x3000)),
    () => String.fromCharCode(0x4e00 + random(0x5000)),
    () => String.fromCodePoint(0x1f300 + random(0x500)),
    () => String.fromCharCode(0xd800 + random(0x800)),
    () => ['\r\n', '\u0000', 'e\u0301', '\ufeff', '👩‍👩‍👧', '  \n\n '][random(6)] as string,
    () => ['<|im_start|>', '<|im_end|>', '<|endoftext|>', '<|im_', '<s>', '<|extra_0|>'][random(6)] as string,
  ]
  const piece = () => (kinds[random(kinds.length)] as () => string)()
  return Array.from({ length: count }, () => Array.from({ length: random(60) }, piece).join(''))
}

test('the length of a text is counted in UTF-8 bytes', () => {
  expect(isLong('a'.repeat(MAX_SYNCHRONOUS_BYTES))).toBe(false)
  expect(isLong('a'.repeat(MAX_SYNCHRONOUS_BYTES + 1))).toBe(true)
  expect(isLong('你'.repeat(1365))).toBe(false)
  expect(isLong('你'.repeat(1366))).toBe(true)
})

describe('the ids are those that the tokenizer itself gives', () => {
  const compare = async (directory: string, texts: readonly string[]) => {
    const tokenizer = await loadTokenizer(directory)
    const textWorker = workerOf(directory)
    for (const addSpecialTokens of [true, false]) {
      const encoded = await Promise.all(texts.map((text) => textWorker.encode({ text, addSpecialTokens }).output))
      for (const [i, text] of texts.entries()) {
        expect(Array.from(encoded[i] as Int32Array), text).toEqual(tokenizer.encode(text, { addSpecialTokens }))
      }
    }
  }
  const fixtureTexts = (name: string) =>
    (JSON.parse(readFileSync(join(fixtures, name), 'utf8')) as { encoded: { text: string }[] }).encoded.map(
      ({ text }) => text,
    )

  test('tokenizer.json', () =>
    compare(demo, [...fixtureTexts('demo-tokenizer.json'), ...randomTexts(200), slow.text.slice(0, 20_000)]))
  test('qwen.tiktoken', () =>
    compare(join(fixtures, 'qwen1'), [...fixtureTexts('qwen-tiktoken.json'), ...randomTexts(200)]))
  test('a tokenizer that adds special tokens', async () => {
    const directory = await withLeadingToken()
    await compare(directory, ['', 'a', ' a<s>a', 'a'.repeat(9000), ...randomTexts(50)])
    await rm(directory, { recursive: true })
  })
})

describe('cancel', () => {
  test('rejects a text in progress at once, and a waiting one; the others go on', async () => {
    const textWorker = workerOf(demo)
    await textWorker.encode(quick).output
    const settled: string[] = []
    const track = (name: string, ids: Promise<unknown>) =>
      ids.then(
        () => settled.push(name),
        () => settled.push(`no ${name}`),
      )
    const first = textWorker.encode(slow)
    const second = textWorker.encode(quick)
    const third = textWorker.encode(quick)
    const all = [track('first', first.output), track('second', second.output), track('third', third.output)]
    await new Promise((wake) => setTimeout(wake, 5))
    expect(textWorker.pending).toBe(3)
    first.cancel(new Error('first'))
    second.cancel(new Error('second'))
    expect(textWorker.pending).toBe(1)
    await Promise.all(all)
    expect(settled).toEqual(['no first', 'no second', 'third'])
    await expect(first.output).rejects.toThrow('first')
    await expect(second.output).rejects.toThrow('second')
    first.cancel(new Error('again'))
    expect(textWorker.pending).toBe(0)
  })

  test('before anything has started starts no thread', async () => {
    const textWorker = workerOf(demo)
    const { output, cancel } = textWorker.encode(slow)
    cancel(new Error('never mind'))
    await expect(output).rejects.toThrow('never mind')
    expect(threadOf(textWorker)).toBeUndefined()
  })
})

test('close rejects all current and future texts, and ends the thread', async () => {
  const textWorker = workerOf(demo)
  const texts = [textWorker.encode(slow), textWorker.encode(quick)]
  const outcomes = Promise.allSettled(texts.map(({ output }) => output))
  await new Promise((wake) => setTimeout(wake, 5))
  const thread = threadOf(textWorker) as Worker
  await Promise.all([textWorker.close(disposed), textWorker.close(new BillfishError('INTERNAL', 'the second close'))])
  expect(await outcomes).toEqual([
    { status: 'rejected', reason: disposed },
    { status: 'rejected', reason: disposed },
  ])
  expect(thread.threadId).toBe(-1)
  expect(() => textWorker.encode(quick)).toThrow(disposed)
})

describe('when the thread dies', () => {
  const deaths: [string, RegExp, (thread: Worker) => unknown][] = [
    ['by an error', /has failed .*; the next long text starts a new one/, (thread) => thread.postMessage(null)],
    ['by being ended', /has ended \(exit code 1\)/, (thread) => setTimeout(() => thread.terminate(), 5)],
  ]
  test.each(deaths)('%s, its text fails, other and later texts do not', async (_, message, kill) => {
    const textWorker = workerOf(demo)
    const expected = Array.from(await textWorker.encode(quick).output)
    const thread = threadOf(textWorker) as Worker
    kill(thread) // it will have begun with the text, or be about to
    const active = textWorker.encode(slow)
    const waiting = textWorker.encode(quick)
    await expect(active.output).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringMatching(message) })
    expect(Array.from(await waiting.output)).toEqual(expected)
    expect(threadOf(textWorker)).not.toBe(thread)
    expect(Array.from(await textWorker.encode(quick).output)).toEqual(expected)
  })

  test('while it is idle, nothing fails', async () => {
    const textWorker = workerOf(demo)
    const expected = Array.from(await textWorker.encode(quick).output)
    const thread = threadOf(textWorker) as Worker
    thread.postMessage(null)
    await new Promise((ended) => thread.once('exit', ended))
    expect(Array.from(await textWorker.encode(quick).output)).toEqual(expected)
  })
})

test('an endless text is stopped within two seconds, and the next one is encoded', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'billfish-encoder-'))
  const json = JSON.parse(readFileSync(join(demo, 'tokenizer.json'), 'utf8'))
  const pre_tokenizer = { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated', invert: false }
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify({ ...json, pre_tokenizer }))
  const textWorker = workerOf(directory)
  const [start, usage] = [performance.now(), process.cpuUsage()]
  const endless = textWorker.encode({ text: `${'a'.repeat(60)}!`, addSpecialTokens: true })
  const next = textWorker.encode({ text: 'b', addSpecialTokens: true })
  await expect(endless.output).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(
      /tokenizer\.json: tokenizing a text of 61 characters took more than \d+ ms .*was terminated/,
    ),
  })
  const { user, system } = process.cpuUsage(usage)
  // Whichever is less: other processes may want the processor.
  expect(Math.min(performance.now() - start, (user + system) / 1000)).toBeLessThan(2000)
  expect((await next.output).length).toBe(1)
  await rm(directory, { recursive: true })
})

test.runIf(process.platform === 'linux')('a thread is limited by its processor time, not by its age', () => {
  const schedule = ownSchedstatPath()
  const before = cpuTime(schedule) as number
  for (const until = performance.now() + 20; performance.now() < until; );
  const busy = (cpuTime(schedule) as number) - before
  expect(busy).toBeGreaterThan(0)
  const start = performance.now()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  expect(performance.now() - start).toBeGreaterThan(190)
  expect((cpuTime(schedule) as number) - before - busy).toBeLessThan(100)
  expect(cpuTime('/proc/self/task/0/schedstat')).toBeUndefined()
})

test('missing tokenizer files are named, and the next text reads them again', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'billfish-encoder-'))
  const textWorker = workerOf(directory)
  const error = { name: 'BillfishError', code: 'INVALID_CHECKPOINT', message: expect.stringContaining(directory) }
  await expect(textWorker.encode(quick).output).rejects.toMatchObject(error)
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) await cp(join(demo, name), join(directory, name))
  expect((await textWorker.encode(quick).output).length).toBeGreaterThan(0)
  await rm(directory, { recursive: true })
})
