import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadTokenizer } from '../../src/generation/tokenizer'
import { type GenerateOptions, loadModel, type Model } from '../../src/index'

const directory = resolve(__dirname, '../../examples/demo-model')
/** Half a million characters, more tokens than any model here has room for. */
const endless = 'A text that never ends, word by word. '.repeat(13_200)
/** More than 4096 bytes, but few tokens. */
const long = `${'<|endoftext|>'.repeat(330)}<|im_start|>user\nWhy pad a weight matrix?<|im_end|>\n<|im_start|>assistant\n`
const greedy = { temperature: 0, maxNewTokens: 8 }
const load = () => loadModel(directory, { maxModelLength: 1024, prefixCache: false })
let model: Model

/**
 * Milliseconds that this thread has computed; where the system does not count them, those on the clock on the wall, in
 * which other processes may have had the core.
 */
const schedule = `/proc/self/task/${process.pid}/schedstat`
const clock = existsSync(schedule)
  ? () => Number(readFileSync(schedule, 'latin1').split(' ')[0]) / 1e6
  : () => performance.now()

/** The demo model with `prefix` before its chat template. */
async function demoWith(prefix: string) {
  const place = mkdtempSync(join(tmpdir(), 'billfish-template-'))
  cpSync(directory, place, { recursive: true })
  const config = JSON.parse(readFileSync(join(place, 'tokenizer_config.json'), 'utf8')) as { chat_template: string }
  writeFileSync(join(place, 'chat_template.jinja'), prefix + config.chat_template)
  const copy = await loadModel(place, { maxModelLength: 1024 })
  return {
    model: copy,
    async [Symbol.asyncDispose]() {
      await copy.dispose()
      rmSync(place, { recursive: true })
    },
  }
}

beforeAll(async () => {
  model = await load()
})
afterAll(() => model.dispose())

describe('a long prompt', () => {
  test('is answered as its token ids would be', async () => {
    const ids = (await loadTokenizer(directory)).encode(long)
    const expected = await model.generate(ids, greedy).result()
    const generation = model.generate(long, greedy)
    let text = ''
    for await (const chunk of generation) text += chunk.text
    const result = await generation.result()
    expect({ text, tokenIds: result.tokenIds }).toEqual({ text: expected.text, tokenIds: expected.tokenIds })
    expect(result.usage).toEqual(expected.usage)
  })

  test('may be messages', async () => {
    const generate = (content: string) => model.generate([{ role: 'user', content }], greedy).result()
    const [short, padded] = await Promise.all([generate('x'), generate(`${'<|endoftext|>'.repeat(330)}x`)])
    expect(padded.usage.promptTokens).toBe(short.usage.promptTokens + 330)
  })

  test('may be messages whose template takes long', async () => {
    await using copy = await demoWith('{% for i in range(90000) %}{% set x = i * i %}{% endfor %}')
    const messages = [{ role: 'user', content: 'Why pad a weight matrix?' }]
    const expected = await model.generate(messages, greedy).result()
    const { text, usage } = await copy.model.generate(messages, greedy).result()
    expect({ text, usage }).toEqual({ text: expected.text, usage: expected.usage })
  })

  test('of an endless template is an error of the checkpoint, and can be aborted', async () => {
    const endlessLoop = '{% for i in range(90000) %}'.repeat(3) + '{% endfor %}'.repeat(3)
    await using copy = await demoWith(endlessLoop)
    const messages = [{ role: 'user', content: 'x' }]
    await expect(copy.model.generate(messages, greedy).result()).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(/chat_template\.jinja: the chat template takes more than/),
    })
    const aborted = copy.model.generate(messages, { ...greedy, signal: AbortSignal.timeout(20) })
    await expect(aborted.result()).rejects.toMatchObject({ name: 'TimeoutError' })
    expect((await copy.model.generate('x', greedy).result()).tokenIds.length).toBeGreaterThan(0)
  })

  test('counts as waiting while it is tokenized, and in the time to the first token', async () => {
    await using fresh = await load() // whose thread has yet to start
    const started = performance.now()
    const generation = fresh.generate(long, greedy)
    let tokenizing = 0
    while (fresh.activity().waiting === 1) {
      await new Promise((wake) => setTimeout(wake, 1))
      tokenizing = performance.now() - started
    }
    expect(tokenizing).toBeGreaterThan(5)
    expect((await generation.result()).timings.timeToFirstToken).toBeGreaterThan(tokenizing - 5)
  })

  test('does not block the event loop', async () => {
    const held: number[] = []
    for (let attempt = 0; attempt < 3; attempt++) {
      let last = clock()
      let longest = 0
      const turn = () => {
        longest = Math.max(longest, clock() - last)
        last = clock()
      }
      const generation = model.generate(endless, greedy)
      turn()
      const timer = setInterval(turn, 1)
      await expect(generation.result()).rejects.toMatchObject({ code: 'INVALID_OPTION' })
      clearInterval(timer)
      turn()
      held.push(longest)
    }
    // The collector may be due in any one of them.
    expect(Math.min(...held), `held for ${held.map((time) => time.toFixed(1))} ms`).toBeLessThan(20)
  })
})

describe('of the options for a long prompt', () => {
  test.each<[object, RegExp]>([
    [{ temperature: -1 }, /temperature is -1/],
    [{ stopTokenIds: [9999] }, /stopTokenIds/],
    [{ logitBias: { 99999: 1 } }, /99999/],
    [{ nonsense: 1 }, /no option nonsense/],
    [{ maxNewTokens: 1024 }, /maxNewTokens is 1024, but must be at most 1023/],
    [{ minNewTokens: 9, maxNewTokens: 8 }, /minNewTokens is 9/],
  ])('%j is refused at once', (options, message) => {
    expect(() => model.generate(endless, options as GenerateOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
    expect(model.activity().waiting).toBe(0)
  })

  test.each<[string, GenerateOptions, RegExp]>([
    [endless, {}, /The prompt is \d+ tokens too long/],
    [long, { maxNewTokens: 900 }, /maxNewTokens is 900, but must be at most \d+, which is what fits after the prompt/],
    [
      '<|im_end|>'.repeat(900),
      { minNewTokens: 200 },
      /minNewTokens is 200, but must be at most maxNewTokens, which is 124/,
    ],
  ])('those that depend on its tokens are refused later (case %#)', async (text, options, message) => {
    const generation = model.generate(text, options)
    const error = { name: 'BillfishError', code: 'INVALID_OPTION', message: expect.stringMatching(message) }
    const read = async () => {
      for await (const _ of generation);
    }
    await expect(read()).rejects.toMatchObject(error)
    await expect(generation.result()).rejects.toMatchObject(error)
  })

  test('those at the time of the call count, even if the object changes', async () => {
    const options = { ...greedy, stop: ['never'], logitBias: { 300: 100 }, ignoreEos: true }
    const generation = model.generate(long, options)
    Object.assign(options, { maxNewTokens: 900, temperature: 1, logitBias: { 301: 100 } })
    options.stop.push('')
    expect((await generation.result()).tokenIds).toEqual(Array(8).fill(300))
  })
})

describe('while a prompt is tokenized', () => {
  test('an abort rejects at once, and other prompts go on', async () => {
    const controller = new AbortController()
    const reason = new Error('changed my mind')
    const generation = model.generate(endless, { ...greedy, signal: controller.signal })
    const after = model.generate(long, greedy)
    await new Promise((wake) => setTimeout(wake, 5))
    controller.abort(reason)
    await expect(generation.result()).rejects.toBe(reason)
    expect(model.activity().waiting).toBe(1)
    await expect(generation[Symbol.asyncIterator]().next()).rejects.toBe(reason)
    expect((await after.result()).tokenIds).toHaveLength(8)
  })

  test('an abort at any moment ends the generation, once', async () => {
    for (let delay = 0; delay < 12; delay++) {
      const controller = new AbortController()
      const generation = model.generate(long, { temperature: 0, ignoreEos: true, signal: controller.signal })
      setTimeout(() => controller.abort(), delay)
      await expect(generation.result()).rejects.toMatchObject({ name: 'AbortError' })
      expect(model.activity().waiting).toBe(0)
    }
    const result = model.generate(long, { ...greedy, signal: AbortSignal.abort() }).result()
    await expect(result).rejects.toMatchObject({ name: 'AbortError' })
    expect((await model.generate(long, greedy).result()).tokenIds).toHaveLength(8)
  })

  test('dispose() ends it with DISPOSED', async () => {
    for (const delay of [0, 5, 60]) {
      const doomed = await load()
      const generations = [doomed.generate(endless, greedy), doomed.generate(long, greedy)]
      const outcomes = Promise.allSettled(generations.map((generation) => generation.result()))
      await new Promise((wake) => setTimeout(wake, delay))
      await doomed.dispose()
      const rejected = { status: 'rejected', reason: { code: 'DISPOSED' } }
      expect(await outcomes).toMatchObject([rejected, rejected])
      expect(() => doomed.generate(long, greedy)).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
    }
  })
})

describe('processes and threads', () => {
  const packagePath = resolve(__dirname, '../../dist/index.js')
  const prelude = `const { loadModel } = require(${JSON.stringify(packagePath)})
    const directory = ${JSON.stringify(directory)}, long = ${JSON.stringify(long)}
    const endless = 'A text that never ends, word by word. '.repeat(13_200)
    const load = () => loadModel(directory, { maxModelLength: 1024 })
    const threads = () => { process.report.excludeNetwork = true; return process.report.getReport().workers.length }
    const greedy = { temperature: 0, maxNewTokens: 8 };`

  function program(source: string, nodeOptions: string[] = []) {
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...nodeOptions, '-e', prelude + source], {
      encoding: 'utf8',
      timeout: 50_000,
    })
    return { status, signal, stdout, stderr }
  }

  test('a text in flight keeps the process alive; the thread itself does not', () => {
    const outcome = program(`(async () => {
      const model = await load()
      const { tokenIds } = await model.generate(long, greedy).result()
      console.log(tokenIds.length, threads())
    })()`)
    expect(outcome).toEqual({ status: 0, signal: null, stdout: '8 1\n', stderr: '' })
  })

  test('a text that is no longer awaited does not keep the process alive', () => {
    const outcome = program(`(async () => {
      const model = await load()
      const controller = new AbortController()
      await model.generate(long, greedy).result()
      model.generate('x'.repeat(1e6), { ...greedy, signal: controller.signal })
      setTimeout(() => controller.abort(), 20)
      const started = performance.now()
      process.on('exit', () => console.log(performance.now() - started < 3000))
    })()`)
    expect(outcome).toEqual({ status: 0, signal: null, stdout: 'true\n', stderr: '' })
  })

  test.each([0, 5, 100])('the process may exit %i ms into it', (delay) => {
    const outcome = program(`load().then((model) => {
      for (let i = 0; i < 4; i++) model.generate(endless, greedy)
      setTimeout(() => process.exit(7), ${delay})
    })`)
    expect(outcome).toEqual({ status: 7, signal: null, stdout: '', stderr: '' })
  })

  test('50 models that are loaded, used and disposed of leave no threads behind', () => {
    const outcome = program(`(async () => {
      for (let i = 0; i < 50; i++) {
        const model = await load()
        if (i % 2) await model.generate(long, greedy).result()
        else model.generate(endless, greedy)
        await model.dispose()
      }
      console.log(threads())
    })()`)
    expect(outcome).toEqual({ status: 0, signal: null, stdout: '0\n', stderr: '' })
  })

  test('the thread of a garbage-collected model ends, too', () => {
    const outcome = program(
      `(async () => {
        const use = async () => { await (await load()).generate(long, greedy).result() }
        await use()
        const before = threads()
        for (let i = 0; i < 50 && threads() > 0; i++) {
          gc()
          await new Promise((wake) => setTimeout(wake, 20))
        }
        console.log(before, threads())
      })()`,
      ['--expose-gc'],
    )
    expect(outcome).toEqual({ status: 0, signal: null, stdout: '1 0\n', stderr: '' })
  })

  test('models in worker threads have their own threads, also when a worker is terminated', async () => {
    const source = `${prelude}
      const { parentPort, workerData } = require('node:worker_threads')
      ;(async () => {
        const model = await load()
        if (workerData === 'leave') { model.generate(endless, greedy); setTimeout(() => parentPort.postMessage('left'), 60); return }
        const { tokenIds } = await model.generate(long, greedy).result()
        parentPort.postMessage(tokenIds)
        await model.dispose()
      })()`
    const run = (workerData: string) =>
      new Promise((settle, fail) => {
        const worker = new Worker(source, { eval: true, workerData })
        let answer: unknown
        worker.on('message', (message) => {
          answer = message
          if (workerData === 'leave') void worker.terminate()
        })
        worker.on('error', fail)
        worker.on('exit', () => settle(answer))
      })
    const expected = (await model.generate(long, greedy).result()).tokenIds
    expect(await Promise.all([run('use'), run('leave'), run('use')])).toEqual([expected, 'left', expected])
  })
})
