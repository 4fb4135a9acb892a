import { resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { devices, loadModel } from '../../../src/index'
import { golden, modelDirectory } from '../../support/fixtures'
import { childProgram } from '../../support/programs'

// Lifetimes and errors of models on emulated devices: what a GPU's stages go through, too.
const name = 'qwen2-gptq-int8-g128' // four layers
const directory = modelDirectory(name)
const expected = golden(name)
const prompt = expected.prompts.p7 as number[]
const greedy = (expected.greedy.p7 as number[]).slice(0, 4)
const split = { '': 'emulated:1', 'model.embed_tokens': 'emulated:0', 'model.layers.0': 'emulated:0' }
const sizes = { maxModelLength: 64, deviceMap: split }
const load = (options = {}) => loadModel(directory, { ...sizes, ...options })
const tokens = (maxNewTokens = 4) => ({ maxNewTokens, temperature: 0, ignoreEos: true })
const program = (source: string, options = {}) =>
  childProgram(
    source,
    { file: resolve(__dirname, '../../../dist/index.js'), directory, prompt, sizes, tokens: { ...tokens(50) } },
    options,
  )

test('code for an older architecture: devices() says so, and nothing is chosen that it lacks', () => {
  const { stdout, stderr, status } = program(
    `(async () => {
      const { devices } = require(file)
      const [first] = devices({ emulated: true }).devices.filter(({ kind }) => kind === 'emulated')
      const model = await loadModel(directory, sizes)
      const { tokenIds } = await model.generate(prompt, { ...tokens, maxNewTokens: 4 }).result()
      console.log(JSON.stringify([first, tokenIds]))
    })()`,
    { env: { BILLFISH_EMULATED_CODE: '80' } },
  )
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 })
  const [device, tokenIds] = JSON.parse(stdout)
  expect(device).toMatchObject({
    computeCapability: '9.0',
    codeArchitecture: '8.0',
    codeNotice: expect.stringMatching(/code for compute capability 8\.0 here.*BILLFISH_CUDA_ARCHITECTURES=90/),
  })
  expect(tokenIds).toEqual(greedy)
  const [usual] = devices({ emulated: true }).devices.filter((found) => found.kind === 'emulated')
  expect(usual).toMatchObject({ codeArchitecture: '9.0', codeNotice: null })
})

test('they are listed on request only', () => {
  expect(devices().devices.filter(({ kind }) => kind === 'emulated')).toEqual([])
  expect(devices().emulator).toBeUndefined()
  expect(devices({ emulated: true }).emulator).toEqual({ compiled: true, reason: null })
  const [first, ...others] = devices({ emulated: true }).devices.filter((device) => device.kind === 'emulated')
  expect(first).toMatchObject({ device: 'emulated:0', computeCapability: '9.0', totalBytes: 4 * 2 ** 30 })
  expect(first?.freeBytes).toBeLessThanOrEqual(4 * 2 ** 30)
  expect(others).toHaveLength(15)
})

describe('abort', () => {
  test('while loading: nothing stays, and the next load works', async () => {
    for (let i = 0; i < 5; i++) {
      const controller = new AbortController()
      let reports = 0
      const onProgress = () => {
        if (++reports > i) controller.abort()
      }
      await expect(load({ signal: controller.signal, onProgress })).rejects.toMatchObject({ name: 'AbortError' })
    }
    await using model = await load()
    expect((await model.generate(prompt, tokens()).result()).tokenIds).toEqual(greedy)
  })

  test('while generating: all KV blocks come back', async () => {
    await using model = await load({ maxSequences: 1 })
    for (let i = 0; i < 4; i++) {
      const controller = new AbortController()
      const generation = model.generate(prompt, { ...tokens(50), signal: controller.signal })
      setTimeout(() => controller.abort(), 40 * i)
      await expect(generation.result()).rejects.toMatchObject({ name: 'AbortError' })
    }
    expect((await model.generate(prompt, tokens()).result()).tokenIds).toEqual(greedy)
  })
})

describe('dispose', () => {
  test('with work in flight at any moment: it ends with DISPOSED, and the devices are empty', async () => {
    for (let i = 0; i < 6; i++) {
      const model = await load()
      const results = Promise.allSettled([
        ...[0, 1, 2].map(() => model.generate(prompt, tokens(50)).result()),
        model.forward(prompt),
      ])
      await new Promise((settle) => setTimeout(settle, 15 * i))
      await Promise.all([model.dispose(), model.dispose()])
      for (const result of (await results).slice(0, 3)) {
        expect(result).toMatchObject({ status: 'rejected', reason: { code: 'DISPOSED' } })
      }
    }
  })

  test('load and dispose cycles leave no memory behind, on the host or on a device', () => {
    const { stdout, stderr, status } = program(
      `(async () => {
        const rss = []
        for (let i = 0; i < 40; i++) {
          const model = await loadModel(directory, i % 2 ? sizes : { ...sizes, deviceMap: 'emulated:0' })
          await model.forward(prompt)
          await model.dispose()
          if (i % 4 === 3) { gc(); rss.push(process.memoryUsage.rss() / 2 ** 20) }
        }
        console.log(JSON.stringify(rss))
      })()`,
      { nodeOptions: ['--expose-gc'], env: { BILLFISH_EMULATED_MEMORY: String(40 * 2 ** 20) } },
    )
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 })
    const rss: number[] = JSON.parse(stdout)
    expect(Math.max(...rss.slice(-3)) - Math.max(...rss.slice(2, 5)), `resident MiB: ${rss}`).toBeLessThan(16)
  })
})

describe('process exit', () => {
  const cases: Record<string, string> = {
    'while loading': 'loadModel(directory, sizes); setTimeout(() => process.exit(7), 3)',
    'with generations in flight': `loadModel(directory, sizes).then((model) => {
      for (let i = 0; i < 3; i++) model.generate(prompt, tokens)
      setTimeout(() => process.exit(7), 60)
    })`,
    'while disposing': `loadModel(directory, sizes).then((model) => {
      model.generate(prompt, tokens); model.dispose(); process.exit(7)
    })`,
  }
  test.each(Object.keys(cases))('%s', (moment) => {
    expect(program(cases[moment] as string)).toEqual({ status: 7, signal: null, stdout: '', stderr: '' })
  })
})

test('worker threads: a model of its own beside the main thread’s, and ending with work in flight', async () => {
  const source = `
    const { parentPort, workerData: { file, directory, prompt, sizes, leave } } = require('node:worker_threads')
    const { loadModel } = require(file)
    ;(async () => {
      const model = await loadModel(directory, sizes)
      const generation = model.generate(prompt, { maxNewTokens: leave ? 50 : 4, temperature: 0, ignoreEos: true })
      parentPort.postMessage(leave ? 'left' : (await generation.result()).tokenIds)
    })()`
  const run = (leave: boolean) =>
    new Promise((settle, fail) => {
      const file = resolve(__dirname, '../../../dist/index.js')
      const worker = new Worker(source, { eval: true, workerData: { file, directory, prompt, sizes, leave } })
      let answer: unknown
      worker.on('message', (message) => {
        answer = message
        if (leave) void worker.terminate()
      })
      worker.on('error', fail)
      worker.on('exit', () => settle(answer))
    })
  await using model = await load()
  const here = model.generate(prompt, tokens()).result()
  expect(await Promise.all([run(false), run(true)])).toEqual([greedy, 'left'])
  expect((await here).tokenIds).toEqual(greedy)
})

describe('errors', () => {
  test('a full device reports requested and free bytes; a smaller model then loads', () => {
    const outcome = program(
      `(async () => {
        const { code, message } = await loadModel(directory, { ...sizes, maxModelLength: 512, maxSequences: 64 }).catch((error) => error)
        const model = await loadModel(directory, sizes)
        const { tokenIds } = await model.generate(prompt, { ...tokens, maxNewTokens: 4 }).result()
        console.log(JSON.stringify({ code, message, tokenIds }))
      })()`,
      { env: { BILLFISH_EMULATED_MEMORY: String(36 * 2 ** 20) } },
    )
    expect(outcome).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse(outcome.stdout)).toEqual({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/^emulated:[01] cannot hold \d+ more bytes: \d+ of 37748736 are free/),
      tokenIds: greedy,
    })
  })

  test('a model loads into exactly the bytes that were planned', async () => {
    const model = await load({ deviceMap: 'emulated:0' })
    const [stage] = model.memory()
    await model.dispose()
    const bytes = (stage?.weights ?? 0) + (stage?.kvCache ?? 0) + (stage?.buffers ?? 0)
    const source = `loadModel(directory, { ...sizes, deviceMap: 'emulated:0' })
      .then(() => console.log('loaded'), ({ code }) => console.log(code))`
    const withBytes = (more: number) => program(source, { env: { BILLFISH_EMULATED_MEMORY: String(bytes + more) } })
    expect(withBytes(0)).toEqual({ status: 0, signal: null, stdout: 'loaded\n', stderr: '' })
    expect(withBytes(-1)).toEqual({ status: 0, signal: null, stdout: 'OUT_OF_MEMORY\n', stderr: '' })
  })

  test('a stage that does not fit is refused before any earlier stage is loaded', () => {
    const outcome = program(
      `(async () => {
        const progress = []
        const deviceMap = { 'model.embed_tokens': 'emulated:0', '': 'emulated:1' }
        const { code, message } = await loadModel(directory, {
          ...sizes, deviceMap, maxModelLength: 512, maxSequences: 64, onProgress: ({ bytesDone }) => progress.push(bytesDone),
        }).catch((error) => error)
        console.log(JSON.stringify({ code, message, progress }))
      })()`,
      { env: { BILLFISH_EMULATED_MEMORY: String(36 * 2 ** 20) } },
    )
    expect(outcome).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse(outcome.stdout)).toEqual({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/^emulated:1 cannot hold \d+ more bytes: 37748736 of 37748736 are free/),
      progress: [0],
    })
  })

  test.each(['emulated:16', 'emulated:9999'])('there is no %s', async (deviceMap) => {
    await expect(load({ deviceMap })).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' })
  })
})
