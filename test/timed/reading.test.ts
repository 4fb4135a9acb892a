import { resolve } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModel, type Model } from '../../src/index'
import { childProgram } from '../support/programs'

const directory = resolve(__dirname, '../../examples/demo-model')
const question = [{ role: 'user' as const, content: 'Why pad a weight matrix?' }]
const greedy = { temperature: 0, maxNewTokens: 40 }
const endless = { temperature: 0, ignoreEos: true, maxNewTokens: 900 }
const busy = { code: 'INVALID_STATE', message: expect.stringMatching(/already has a reader/) }
const cancelled = { name: 'AbortError' }
let model: Model

beforeAll(async () => {
  model = await loadModel(directory, { maxModelLength: 1024, maxSequences: 2 })
})
afterAll(() => model.dispose())

const until = async (holds: () => boolean) => {
  for (let i = 0; !holds(); i++) {
    if (i > 2000) throw new Error('it has not come to that')
    await new Promise((wake) => setTimeout(wake, 5))
  }
}

async function read(generation: AsyncIterable<{ readonly text: string; readonly tokenIds: readonly number[] }>) {
  const all = { text: '', tokenIds: [] as number[], chunks: 0 }
  for await (const { text, tokenIds } of generation) {
    all.text += text
    all.tokenIds.push(...tokenIds)
    all.chunks++
  }
  return all
}

describe('one reader', () => {
  test('a second one is refused, at the same time and later', async () => {
    const generation = model.generate(question, greedy)
    const [first, second] = await Promise.allSettled([read(generation), read(generation)])
    expect(second).toMatchObject({ status: 'rejected', reason: busy })
    expect(first).toMatchObject({ status: 'fulfilled', value: { text: (await generation.result()).text } })
    await expect(read(generation)).rejects.toMatchObject(busy)
  })

  test('reads everything, however late it starts', async () => {
    const generation = model.generate(question, greedy)
    const { text, tokenIds } = await generation.result()
    expect(await read(generation)).toEqual({ text, tokenIds, chunks: tokenIds.length })
  })

  test('may request several chunks at a time: they arrive in order, and then the end', async () => {
    const generation = model.generate(question, { ...greedy, maxNewTokens: 3 })
    const reader = generation[Symbol.asyncIterator]()
    const chunks = await Promise.all(Array.from({ length: 5 }, () => reader.next()))
    expect(chunks.map(({ done }) => done)).toEqual([false, false, false, true, true])
    expect(chunks.flatMap(({ value }) => value?.tokenIds ?? [])).toEqual((await generation.result()).tokenIds)
    expect(await reader.next()).toEqual({ value: undefined, done: true })
  })

  test('sees a failure once', async () => {
    const generation = model.generate(question, endless)
    const reader = generation[Symbol.asyncIterator]()
    const chunks = [reader.next(), reader.next()]
    generation.cancel('enough')
    expect(await Promise.allSettled(chunks)).toMatchObject([
      { status: 'rejected', reason: 'enough' },
      { status: 'fulfilled', value: { done: true } },
    ])
    expect(await reader.next()).toEqual({ value: undefined, done: true })
  })
})

describe('cancelling', () => {
  test('happens on leaving the loop, by break or by an error', async () => {
    for (const leave of ['break', 'error']) {
      const generation = model.generate(question, endless)
      const loop = async () => {
        for await (const _ of generation) {
          if (leave === 'break') break
          throw new RangeError('no')
        }
      }
      if (leave === 'break') await loop()
      else await expect(loop()).rejects.toThrow(RangeError)
      await expect(generation.result()).rejects.toMatchObject(cancelled)
    }
    expect(model.activity()).toMatchObject({ running: 0, waiting: 0, paused: 0 })
  })

  test('does not discard the result if the loop is left on the last chunk', async () => {
    const generation = model.generate(question, { ...greedy, maxNewTokens: 2 })
    let chunks = 0
    for await (const _ of generation) if (++chunks === 2) break
    expect((await generation.result()).tokenIds).toHaveLength(2)
  })

  test('happens on return() and throw() of the iterator, also while a chunk is awaited', async () => {
    const left = model.generate(question, endless)
    const reader = left[Symbol.asyncIterator]()
    const next = reader.next()
    expect(await reader.return?.('over' as never)).toEqual({ value: 'over', done: true })
    expect(await next).toEqual({ value: undefined, done: true })
    await expect(left.result()).rejects.toMatchObject(cancelled)
    const thrown = model.generate(question, endless)
    await expect(thrown[Symbol.asyncIterator]().throw?.(new RangeError('no'))).rejects.toThrow(RangeError)
    await expect(thrown.result()).rejects.toThrow(RangeError)
  })

  test('happens on cancel(), with the given reason, at any time', async () => {
    for (const reason of [new Error('enough'), null, 'words']) {
      const generation = model.generate(question, endless)
      generation.cancel(reason)
      generation.cancel('too late')
      await expect(generation.result()).rejects.toBe(reason)
    }
    const plain = model.generate('A long text. '.repeat(1000), endless) // that is tokenized on a thread
    plain.cancel()
    await expect(plain.result()).rejects.toMatchObject(cancelled)
    const ended = model.generate(question, greedy)
    const result = await ended.result()
    ended.cancel()
    expect(await ended.result()).toBe(result)
  })
})

describe('a slow reader', () => {
  test('pauses its sequence, and gets everything', async () => {
    const generation = model.generate(question, endless)
    const reader = generation[Symbol.asyncIterator]()
    const first = await reader.next()
    await until(() => model.activity().paused === 1)
    const { steps } = model.trace()
    await new Promise((wake) => setTimeout(wake, 50))
    expect(model.trace().steps).toHaveLength(steps.length)
    expect(model.activity()).toMatchObject({ paused: 1, running: 0, stepsInFlight: 0 })
    const rest = await read(reader)
    expect(rest.chunks).toBe(899)
    expect([...(first.value?.tokenIds ?? []), ...rest.tokenIds]).toEqual((await generation.result()).tokenIds)
    expect(model.activity().cacheTokens.inUse).toBe(0)
  })

  test('does not block others: paused sequences yield their slots and blocks, and are recomputed', async () => {
    const generations = [0, 1, 2].map((seed) => model.generate(question, { ...endless, temperature: 1, seed }))
    await until(() => model.activity().paused === 2) // of the two places there are
    for (let i = 0; i < 3; i++) await model.generate(question, greedy).result()
    await until(() => model.activity().paused === 3)
    expect((await model.generate(question, endless).result()).tokenIds).toHaveLength(900)
    expect(model.activity().preemptions).toBeGreaterThan(0)
    const [slow, awaited, dropped] = generations as [(typeof generations)[0], (typeof generations)[0], object]
    expect((await read(slow)).tokenIds).toEqual((await slow.result()).tokenIds)
    const alone = await model.generate(question, { ...endless, temperature: 1, seed: 1 }).result()
    expect((await awaited.result()).tokenIds).toEqual(alone.tokenIds)
    ;(dropped as typeof slow).cancel()
    await until(() => model.activity().paused === 0)
    expect(model.activity()).toMatchObject({ waiting: 0, running: 0, cacheTokens: { inUse: 0 } })
  })

  test('does not delay the result: unread text arrives in larger chunks', async () => {
    const generation = model.generate(question, { ...endless, logprobs: 0 })
    const reader = generation[Symbol.asyncIterator]()
    await reader.next()
    const { tokenIds } = await generation.result()
    expect(tokenIds).toHaveLength(900)
    let [chunks, read] = [0, 1]
    for await (const chunk of reader) {
      chunks++
      read += chunk.tokenIds.length
      expect(chunk.logprobs?.map(({ token }) => token)).toEqual(chunk.tokenIds)
    }
    expect({ chunks, read }).toEqual({ chunks: 256, read: 900 })
  })

  test('is aborted and disposed of like any other', async () => {
    const controller = new AbortController()
    const other = await loadModel(directory, { maxModelLength: 1024 })
    const aborted = other.generate(question, { ...endless, signal: controller.signal })
    const doomed = other.generate(question, endless)
    await until(() => other.activity().paused === 2)
    controller.abort()
    await expect(aborted.result()).rejects.toMatchObject(cancelled)
    expect(other.activity().paused).toBe(1)
    await other.dispose()
    await expect(read(doomed)).rejects.toMatchObject({ code: 'DISPOSED' })
  })

  test('that is garbage-collected ends its generation, unless its result is awaited', () => {
    const outcome = childProgram(
      `(async () => {
        const model = await loadModel(directory, { maxModelLength: 1024 })
        const question = [{ role: 'user', content: 'Hello' }]
        const options = { temperature: 0, ignoreEos: true, maxNewTokens: 900 }
        const wait = (ms) => new Promise((wake) => setTimeout(wake, ms))
        for (let i = 0; i < 8; i++) model.generate(question, options)
        const result = model.generate(question, options).result()
        const text = model.generate(question, options).text
        let read = 0
        const loop = (async () => { for await (const { tokenIds } of model.generate(question, options)) { read += tokenIds.length; if (read === 10) await wait(500) } })()
        for (let i = 0; i < 40; i++) { gc(); await wait(10) } // while the reader waits, and the results are computed
        await Promise.all([result, text, loop])
        for (let i = 0; i < 1000 && model.activity().cacheTokens.inUse + model.activity().paused > 0; i++) { gc(); await wait(10) }
        const { paused, cacheTokens } = model.activity()
        console.log(JSON.stringify([paused, cacheTokens.inUse, (await result).tokenIds.length, (await text).length > 100, read]))
      })()`,
      { directory },
      { nodeOptions: ['--expose-gc'] },
    )
    expect(outcome).toMatchObject({ status: 0, stderr: '', stdout: '[0,0,900,true,900]\n' })
  })
})

describe('a generation and its result', () => {
  test('members of the result are promises, and an unawaited one does no harm', async () => {
    const generation = await model.generate(question, { ...greedy, seed: 7 })
    const result = await generation.result()
    expect(await generation.text).toBe(result.text)
    expect(await generation.tokenIds).toEqual(result.tokenIds)
    expect([await generation.finishReason, await generation.stoppedBy, await generation.logprobs]).toEqual([
      result.finishReason,
      result.stoppedBy,
      undefined,
    ])
    expect([await generation.seed, await generation.usage, await generation.timings]).toEqual([
      '7',
      result.usage,
      result.timings,
    ])
    const failed = model.generate(question, { signal: AbortSignal.abort() })
    expect(failed.text).toBeInstanceOf(Promise)
  })

  test('as a string, as JSON and on the console, a generation says what to await', async () => {
    const generation = model.generate(question, greedy)
    expect(`${generation}`).toMatch(/await generation\.text/)
    expect(JSON.stringify({ generation })).toMatch(/await generation\.result\(\)/)
    expect(Object.keys(generation)).toEqual([])
    expect(inspect(generation)).toMatch(/^Generation \{ status: 'running', .*completionTokens: 0/s)
    const { text } = await generation.result()
    expect(inspect(generation)).toContain("status: 'ended'")
    expect(inspect(generation)).toContain(text.slice(0, 20))
  })

  test('a result survives JSON, and its seed reproduces it', async () => {
    const seed = 2n ** 64n - 1n
    const result = await model.generate(question, { ...greedy, temperature: 1, seed, logprobs: 1 }).result()
    expect(JSON.parse(JSON.stringify(result))).toStrictEqual(result)
    expect(result.seed).toBe('18446744073709551615')
    const again = await model.generate(question, { ...greedy, temperature: 1, seed: result.seed }).result()
    expect(again.tokenIds).toEqual(result.tokenIds)
    for (const wrong of ['', '-1', '1.5', '18446744073709551616', 'seven']) {
      expect(() => model.generate(question, { seed: wrong })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(/^seed is "/) }),
      )
    }
  })

  test('a model prints a summary, also after it is disposed of', async () => {
    const other = await loadModel(directory, { maxModelLength: 512, deviceMap: { '': 'cpu:0', lm_head: 'cpu:1' } })
    expect(inspect(other)).toMatch(
      /^Model \{\n {2}modelType: 'qwen2',\n {2}layers: 8,\n {2}devices: \{ 'cpu:0': \{ bytes: \d+ \}, 'cpu:1': \{ bytes: \d+ \} \},\n {2}maxModelLength: 512,/,
    )
    expect(Object.keys(other).sort()).toEqual(['config', 'deviceMap', 'limits', 'stages'])
    await other.dispose()
    expect(inspect([other], { depth: 0 })).toContain('disposed: true')
  })
})

describe('token ids', () => {
  const odd: [string, unknown][] = [
    ['length 1e6', { length: 1e6 }],
    ['length 2^53', { length: 2 ** 53 }],
    ['length NaN', { length: Number.NaN }],
    ['length -1', { length: -1 }],
    ['length 1.5', { length: 1.5 }],
    ['length "2"', { length: '2', 0: 1, 1: 2 }],
    ['no length', {}],
    ['a text', '12'],
    ['null', null],
    ['nothing', undefined],
    ['a number', 5],
    ['floats', Float32Array.of(1, 2)],
    ['doubles', Float64Array.of(1, 2)],
    ['bigints', [1n]],
    ['64-bit integers', BigInt64Array.of(1n)],
    ['bytes', Buffer.from('hello')],
    ['a view of bytes', new DataView(new ArrayBuffer(8))],
    ['holes', new Array(3)],
    ['4e9 holes', new Array(2 ** 32 - 1)],
    ['a set', new Set([1])],
    ['an array in an array', [[1, 2]]],
    ['digits', ['1', '2']],
    [
      'a getter that throws',
      {
        get length() {
          throw new Error('no')
        },
      },
    ],
    [
      'a proxy that throws',
      new Proxy([1, 2], {
        get: () => {
          throw new Error('no')
        },
      }),
    ],
  ]
  test.each(odd)('%s: refused at once', async (_, ids) => {
    const started = performance.now()
    await expect(model.forward(ids as number[])).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    if (typeof ids !== 'string' || ids === '') {
      expect(() => model.generate(ids as number[])).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
    }
    expect(performance.now() - started).toBeLessThan(100)
  })

  test('are read once', async () => {
    let reads = 0
    const ids = {
      length: 1,
      get 0() {
        return ++reads
      },
    }
    expect((await model.forward(ids)).logits).toEqual((await model.forward([1])).logits)
    expect(reads).toBe(1)
  })
})

describe('invalid signals', () => {
  const no = () => {
    throw new Error('no')
  }
  const listens = { addEventListener() {}, removeEventListener() {} }
  const signals: [string, object][] = [
    ['an empty object', {}],
    ['without removeEventListener', { aborted: false, addEventListener() {} }],
    ['without aborted', listens],
    ['whose addEventListener throws', { aborted: false, ...listens, addEventListener: no }],
    ['whose removeEventListener throws', { aborted: false, ...listens, removeEventListener: no }],
    ['whose aborted throws', Object.defineProperty({ ...listens }, 'aborted', { get: no })],
  ]
  test.each(signals)('%s: refused before anything starts', async (_, given) => {
    const signal = given as AbortSignal
    const refused = { code: 'INVALID_OPTION', message: expect.stringMatching(/signal/) }
    expect(() => model.generate(question, { signal })).toThrow(expect.objectContaining(refused))
    expect(() => model.generate('long '.repeat(2000), { signal })).toThrow(expect.objectContaining(refused))
    await expect(model.forward([1], { signal })).rejects.toMatchObject(refused)
    expect(model.activity()).toMatchObject({ running: 0, waiting: 0, paused: 0 })
  })

  test('a reason that throws is the reason', async () => {
    const controller = new AbortController()
    const error = new RangeError('no reason')
    Object.defineProperty(controller.signal, 'reason', {
      get() {
        throw error
      },
    })
    const generation = model.generate(question, { ...endless, signal: controller.signal })
    const forward = model.forward([1, 2, 3], { signal: controller.signal })
    controller.abort()
    await expect(generation.result()).rejects.toBe(error)
    await expect(forward).rejects.toBe(error)
  })

  test('a polyfill that gives no reason, and tells again and again, ends it with an AbortError', async () => {
    const listeners: (() => void)[] = []
    const signal = {
      aborted: false,
      addEventListener: (_: string, listener: () => void) => listeners.push(listener),
      removeEventListener() {},
    }
    const generation = model.generate(question, { ...endless, signal: signal as never })
    for (let i = 0; i < 3; i++) for (const listener of listeners) listener()
    await expect(generation.result()).rejects.toMatchObject(cancelled)
  })
})
