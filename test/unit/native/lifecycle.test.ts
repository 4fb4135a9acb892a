import { once } from 'node:events'
import { resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { loadModel } from '../../../src/index'
import { golden, modelDirectory } from '../../support/fixtures'
import { childProgram } from '../../support/programs'

const name = 'qwen2-gptq-int4-g128'
const directory = modelDirectory(name)
const expected = golden(name)
const prompt = expected.prompts.p33 as number[]
const greedy = expected.greedy.p33 as number[]
const load = (options = {}) => loadModel(directory, { maxModelLength: 128, ...options })
const tokens = (maxNewTokens = 24) => ({ maxNewTokens, temperature: 0, ignoreEos: true })

/** What a promise is rejected with. */
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  )

/** Runs a CommonJS program that has `loadModel`, `directory` and `prompt`, in a process of its own. */
function program(source: string, nodeOptions: string[] = []) {
  return childProgram(source, { directory, prompt }, { nodeOptions })
}

describe('abort', () => {
  test('a signal that has already aborted stops loading and generating at once', async () => {
    await using model = await load()
    // As AbortController does it: whatever the reason is, it is what comes out.
    for (const reason of [new Error('changed my mind'), 'a text', null, 0]) {
      const signal = AbortSignal.abort(reason)
      await expect(load({ signal })).rejects.toBe(reason)
      const generation = model.generate(prompt, { ...tokens(), signal })
      await expect(generation.result()).rejects.toBe(reason)
      await expect(generation[Symbol.asyncIterator]().next()).rejects.toBe(reason)
      await expect(model.forward(prompt, { signal })).rejects.toBe(reason)
    }
    const signal = AbortSignal.abort()
    await expect(model.forward(prompt, { signal })).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('while loading: nothing stays, and the next load works', async () => {
    for (let i = 0; i < 10; i++) {
      const controller = new AbortController()
      const loading = load({ signal: controller.signal, onProgress: () => controller.abort() })
      expect(await failure(loading)).toBe(controller.signal.reason)
    }
    await using model = await load()
    expect((await model.generate(prompt, tokens()).result()).tokenIds).toEqual(greedy)
  })

  test('while the checkpoint is opened: rejects with the reason, whatever was being read', async () => {
    const reason = 'changed my mind'
    for (let delay = 0; delay < 8; delay += 0.05) {
      const controller = new AbortController()
      const started = performance.now()
      const abort = () => (performance.now() - started < delay ? setImmediate(abort) : controller.abort(reason))
      setImmediate(abort)
      const outcome = await failure(load({ signal: controller.signal }).then((model) => model.dispose()))
      if (outcome !== reason) expect(outcome).toEqual(new Error('it succeeded'))
    }
  })

  test('while generating: the reader gets the error, and all KV blocks are freed', async () => {
    await using model = await load({ maxSequences: 1 })
    for (let i = 0; i < 20; i++) {
      const controller = new AbortController()
      const generation = model.generate(prompt, { ...tokens(90), signal: controller.signal })
      let seen = 0
      const read = async () => {
        for await (const chunk of generation) {
          seen += chunk.tokenIds.length
          if (seen > i) controller.abort()
        }
      }
      expect(await failure(read())).toBe(controller.signal.reason)
      expect(await failure(generation.result())).toBe(controller.signal.reason)
    }
    expect((await model.generate(prompt, tokens(90)).result()).tokenIds.slice(0, 24)).toEqual(greedy)
  })
})

test('AbortSignal.timeout() ends with its TimeoutError', async () => {
  await using model = await load({ maxModelLength: 512, maxSequences: 1 })
  const first = model.generate(prompt, tokens(400))
  const late = model.generate(prompt, { ...tokens(), signal: AbortSignal.timeout(1) })
  await expect(late.result()).rejects.toMatchObject({ name: 'TimeoutError' })
  first.cancel()
  await expect(first.result()).rejects.toMatchObject({ name: 'AbortError' })
})

test('an error thrown by onProgress ends the loading', async () => {
  const loading = load({
    onProgress: () => {
      throw new RangeError('no')
    },
  })
  await expect(loading).rejects.toThrow(new RangeError('no'))
})

describe('dispose', () => {
  test('twice, with work in flight: the work ends with DISPOSED', async () => {
    const model = await load()
    const generations = Array.from({ length: 6 }, () => model.generate(prompt, tokens(90)))
    const forward = model.forward(prompt)
    const results = Promise.allSettled([...generations.map((generation) => generation.result()), forward])
    await Promise.all([model.dispose(), model.dispose()])
    for (const result of await results) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'DISPOSED' } })
    }
    expect(() => model.generate(prompt, tokens())).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
    expect(() => model.memory()).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
    await expect(model.forward(prompt)).rejects.toMatchObject({ code: 'DISPOSED' })
  })

  test('at any moment of a generation', async () => {
    for (let i = 0; i < 20; i++) {
      const model = await load({ deviceMap: { '': 'cpu:1', 'model.embed_tokens': 'cpu:0', 'model.layers.0': 'cpu:0' } })
      const generation = model.generate(prompt, tokens(90))
      if (i > 0) {
        const reader = generation[Symbol.asyncIterator]()
        for (let seen = 0; seen < i; seen++) await reader.next()
      }
      await model.dispose()
      await expect(generation.result()).rejects.toMatchObject({ code: 'DISPOSED' })
    }
  })

  test('300 load and dispose cycles leave no memory behind', () => {
    const { stdout, stderr, status } = program(
      `(async () => {
        const rss = []
        for (let i = 0; i < 300; i++) {
          const model = await loadModel(directory, { maxModelLength: 128, deviceMap: i % 2 ? 'cpu' : { '': 'cpu:0', lm_head: 'cpu:1' } })
          await model.generate(prompt, { maxNewTokens: 2, temperature: 0 }).result()
          await model.dispose()
          if (i % 10 === 9) { gc(); rss.push(process.memoryUsage.rss() / 2 ** 20) }
        }
        console.log(JSON.stringify(rss))
      })()`,
      ['--expose-gc'],
    )
    expect(stderr).toBe('')
    expect(status).toBe(0)
    const rss: number[] = JSON.parse(stdout)
    const early = Math.max(...rss.slice(12, 17)) // V8's own heap has grown to what it likes by then
    const late = Math.max(...rss.slice(-5))
    expect(late - early, `resident MiB: ${rss.map(Math.round)}`).toBeLessThan(16)
  })

  test('a model without references is freed by the garbage collector', () => {
    const { stderr, status } = program(
      `(async () => {
        for (let i = 0; i < 20; i++) {
          await loadModel(directory, { maxModelLength: 128 })
          await new Promise(setImmediate)
          gc()
        }
      })()`,
      ['--expose-gc'],
    )
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })
})

describe('process exit', () => {
  const cases: Record<string, string> = {
    'while loading': 'loadModel(directory); process.exit(7)',
    'while loading, a little later': 'loadModel(directory); setTimeout(() => process.exit(7), 3)',
    'with generations in flight': `loadModel(directory, { maxModelLength: 128 }).then((model) => {
      for (let i = 0; i < 4; i++) model.generate(prompt, { maxNewTokens: 90, temperature: 0, ignoreEos: true })
      setTimeout(() => process.exit(7), 5)
    })`,
    'while disposing': `loadModel(directory, { maxModelLength: 128 }).then((model) => {
      model.generate(prompt, { maxNewTokens: 90, temperature: 0 }); model.dispose(); process.exit(7)
    })`,
    'by an uncaught error': `process.on('exit', () => { process.exitCode = 7 })
      process.on('uncaughtException', () => process.exit(7))
      loadModel(directory, { maxModelLength: 128 }).then((model) => {
        model.generate(prompt, { maxNewTokens: 90, temperature: 0 })
        setImmediate(() => { throw new Error('boom') })
      })`,
  }
  test.each(Object.keys(cases))('%s', (moment) => {
    for (let i = 0; i < 3; i++) {
      expect(program(cases[moment] as string)).toEqual({ status: 7, signal: null, stdout: '', stderr: '' })
    }
  })

  test('an idle model does not keep the process alive', () => {
    const outcome = program(`loadModel(directory).then(() => console.log('loaded'))`)
    expect(outcome).toEqual({ status: 0, signal: null, stdout: 'loaded\n', stderr: '' })
  })
})

describe('worker threads', () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { loadModel } = require(workerData.package)
    ;(async () => {
      const model = await loadModel(workerData.directory, { maxModelLength: 128 })
      if (workerData.leave) { model.generate(workerData.prompt, { maxNewTokens: 90, ignoreEos: true }); parentPort.postMessage('left'); return }
      const { tokenIds } = await model.generate(workerData.prompt, { maxNewTokens: 24, temperature: 0, ignoreEos: true }).result()
      parentPort.postMessage(tokenIds)
      if (workerData.dispose) await model.dispose()
    })()`
  const run = (data: object, terminate = false) =>
    new Promise((settle, fail) => {
      const workerData = { package: resolve(__dirname, '../../../dist/index.js'), directory, prompt, ...data }
      const worker = new Worker(source, { eval: true, workerData })
      let answer: unknown
      worker.on('message', (message) => {
        answer = message
        if (terminate) void worker.terminate()
      })
      worker.on('error', fail)
      worker.on('exit', () => settle(answer))
    })

  test('several at once, each with a model of its own, beside the main thread', async () => {
    await using model = await load()
    const here = model.generate(prompt, tokens()).result()
    const answers = await Promise.all([run({ dispose: true }), run({ dispose: false }), run({ dispose: true })])
    expect(answers).toEqual([greedy, greedy, greedy])
    expect((await here).tokenIds).toEqual(greedy)
  })

  test('ending or being terminated while a benchmark measures', async () => {
    const measuring = `
      const { parentPort, workerData } = require('node:worker_threads')
      const { addon } = require(workerData.addon)
      const benchmark = new (addon().NativeTask)({
        kind: 'tune', device: 'emulated:0', bfloat16: false, runs: 1000, launches: 1, everyTile: false, rows: [1, 8],
        shapes: [{ bits: 4, out: 64, in: 64, groupSize: 32, zeroPoints: false }], table: '', source: 'none',
      })
      benchmark.run(() => {}).catch(() => {})
      parentPort.postMessage('left')
      if (workerData.exits) process.exit()`
    for (const exits of [true, false]) {
      const worker = new Worker(measuring, {
        eval: true,
        workerData: { exits, addon: resolve(__dirname, '../../../dist/native/addon.js') },
      })
      const exit = once(worker, 'exit')
      expect(await once(worker, 'message')).toEqual(['left'])
      if (!exits) void worker.terminate()
      await exit
    }
  })

  test('ending or being terminated with work in flight', async () => {
    for (let i = 0; i < 4; i++) {
      expect(await run({ leave: true }, i % 2 === 0)).toBe('left')
    }
    expect(await run({ dispose: true })).toEqual(greedy)
  })
})
