/** Names of models on the Hub wherever a directory is taken, and the command that downloads one. */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { isSettings } from '../../../src/hub/needed-files'
import {
  downloadModel,
  type LoadProgress,
  loadModel,
  loadTokenizer,
  padCheckpoint,
  planModel,
} from '../../../src/index'
import { QUANTIZATION_FILES } from '../../../src/quantization/config'
import { directoryOf } from '../../support/directories'
import { COMMIT, digestOf, FakeHub, filesIn } from '../../support/fake-hub'
import { modelDirectory } from '../../support/fixtures'
import { billfish } from '../../support/programs'

const DEMO = resolve(__dirname, '../../../examples/demo-model')
const NAME = 'billfish/demo'

let hub: FakeHub
let cache: string
beforeAll(async () => {
  hub = await FakeHub.start(NAME, filesIn(DEMO))
})
afterAll(() => hub.close())
beforeEach(() => {
  cache = directoryOf({})
  hub.requests.length = 0
  hub.onCdn = () => false
  vi.stubEnv('HF_ENDPOINT', hub.url)
  vi.stubEnv('HF_HUB_CACHE', cache)
  vi.stubEnv('HF_HOME', directoryOf({}))
  for (const name of ['HF_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE']) vi.stubEnv(name, '')
})
afterEach(() => vi.unstubAllEnvs())

const snapshot = () => join(cache, 'models--billfish--demo/snapshots', COMMIT)
const largeFiles = () => hub.requests.filter(({ server }) => server === 'cdn')
const options = { deviceMap: 'cpu', maxModelLength: 128 } as const
const greedy = { maxNewTokens: 8, temperature: 0 } as const

describe("a model's name", () => {
  it('is downloaded, loaded, and computes what its directory does', async () => {
    const phases: LoadProgress['phase'][] = []
    const onProgress = ({ phase }: LoadProgress) => void (phases.at(-1) !== phase && phases.push(phase))
    await using model = await loadModel(NAME, { ...options, onProgress })
    await using local = await loadModel(DEMO, options)
    const question = [{ role: 'user', content: 'What is 17 plus 25?' }]
    const { text } = await model.generate(question, greedy).result()
    expect(text).toBe((await local.generate(question, greedy).result()).text)
    expect(text).not.toBe('')
    expect(phases).toEqual(['downloading', 'loading'])
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    const { length } = hub.requests
    await using again = await loadModel(`${NAME}@main`, options)
    expect((await again.generate(question, greedy).result()).text).toBe(text)
    expect(hub.requests.length).toBe(length)
  })

  it('is planned from its config files, or from its weights once they are there', async () => {
    const plan = await planModel(NAME, options)
    expect(largeFiles()).toEqual([])
    expect(plan.explanation.at(-1)).toMatch(/^The weights of billfish\/demo are not downloaded/)
    const { stages } = await planModel(DEMO, options)
    expect(plan.stages[0]?.weights).toBe(stages[0]?.weights)
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    expect((await planModel(NAME, options)).stages[0]?.weights).toBe(stages[0]?.weights)
    await expect(loadModel(NAME, options)).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: expect.stringContaining('lacks "model.safetensors", and HF_HUB_OFFLINE forbids'),
    })
    vi.stubEnv('HF_HUB_OFFLINE', '')
    await billfish(['download', NAME])
    expect((await planModel(NAME, options)).explanation.join(' ')).not.toContain('not downloaded')
  })

  it('that was downloaded stays what is used offline, when only the config of a newer one has come', async () => {
    const directory = await downloadModel(NAME)
    try {
      hub.commit = 'd'.repeat(40)
      await planModel(NAME, options)
      expect(await downloadModel(NAME, { offline: true })).toBe(directory)
      expect(await downloadModel(NAME)).toBe(join(cache, 'models--billfish--demo/snapshots', 'd'.repeat(40)))
    } finally {
      hub.commit = COMMIT
    }
  })

  it('gives its tokenizer without its weights', async () => {
    await using tokenizer = await loadTokenizer(NAME)
    await using local = await loadTokenizer(DEMO)
    expect(await tokenizer.encode('Hello')).toEqual(await local.encode('Hello'))
    expect(largeFiles()).toEqual([])
  })

  it('can be padded', async () => {
    const result = await padCheckpoint(NAME, join(directoryOf({}), 'padded'), { parallelSizes: [2], dryRun: true })
    expect(result.layers).toBe('model.layers')
  })

  it('is a directory where there is one', async () => {
    const name = join('test', 'fixtures')
    await expect(loadModel(name)).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT' })
    expect(hub.requests).toEqual([])
  })

  it('that is neither a directory nor a model is refused with both', async () => {
    await expect(loadModel('./nowhere')).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /expected a checkpoint directory as on the Hugging Face Hub, or a model's name there/,
      ),
    })
    expect(hub.requests).toEqual([])
    await expect(loadModel('no/where')).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: expect.stringMatching(
        /^There is no model no\/where on http.* \(There is no directory no\/where here\.\)$/,
      ),
    })
  })

  it('ends its download with the signal of the load', async () => {
    hub.onCdn = () => true // never answers
    const controller = new AbortController()
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 300)
    await expect(loadModel(NAME, { ...options, signal: controller.signal })).rejects.toBe(reason)
  })
})

describe('billfish', () => {
  it('download prints the directory', async () => {
    expect(await billfish(['download', NAME])).toEqual({ code: 0, stdout: `${snapshot()}\n`, stderr: '' })
    const other = directoryOf({})
    const { stdout } = await billfish(['download', NAME, '--revision', COMMIT, '--cache-dir', other, '--json'])
    expect(JSON.parse(stdout)).toEqual({ directory: join(other, 'models--billfish--demo/snapshots', COMMIT) })
  })

  it('download draws a bar on a terminal, unless HF_HUB_DISABLE_PROGRESS_BARS says no', async () => {
    expect((await billfish(['download', NAME], { terminal: true })).stderr).toContain('Downloading')
    vi.stubEnv('HF_HUB_DISABLE_PROGRESS_BARS', '1')
    expect((await billfish(['download', NAME], { terminal: true })).stderr).toBe('')
  })

  it('download refuses what is no name, and says what is not there', async () => {
    expect(await billfish(['download', './demo'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('OWNER/NAME'),
    })
    const { code, stderr } = await billfish(['download', 'no/where', '--json'])
    expect(code).toBe(1)
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'DOWNLOAD_FAILED', message: expect.stringContaining('no/where') },
    })
  })

  it('generate takes a name, and says so', async () => {
    const argv = [
      'generate',
      NAME,
      'What is 17 plus 25?',
      '--max-new-tokens',
      '4',
      '--temperature',
      '0',
      '--device-map',
      'cpu',
    ]
    const { code, stdout, stderr } = await billfish(argv)
    expect(code).toBe(0)
    expect(stdout.trim()).not.toBe('')
    expect(stderr).toContain(`There is no directory ${NAME} here; taking the model of this name on the Hub.\n`)
    expect((await billfish([...argv, '--quiet'])).stderr).toBe('')
  })

  it('inspect and plan take a name', async () => {
    expect((await billfish(['inspect', NAME])).stdout).toMatch(/^Checkpoint +billfish\/demo\nModel +qwen2\n/)
    expect((await billfish(['plan', NAME, '--device-map', 'split:cpu:0,cpu:1'])).stdout).toContain('cpu:1')
  })
})

it('two processes that download the same model both end right, and each file is sent once', async () => {
  hub.onCdn = (_, response) => {
    const content = readFileSync(join(DEMO, 'model.safetensors'))
    response.writeHead(200, { 'content-length': content.length })
    response.write(content.subarray(0, 1_000_000))
    setTimeout(() => response.end(content.subarray(1_000_000)), 700)
    return true
  }
  const code = `
    const { downloadModel } = require(${JSON.stringify(resolve(__dirname, '../../../dist/index.js'))})
    downloadModel(${JSON.stringify(NAME)}).then(console.log)`
  const run = () =>
    new Promise<string>((done) => {
      let output = ''
      const child = spawn(process.execPath, ['-e', code])
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
      child.on('close', () => done(output.trim()))
    })
  expect(await Promise.all([run(), run()])).toEqual([snapshot(), snapshot()])
  const weights = readFileSync(join(snapshot(), 'model.safetensors'))
  expect(digestOf('model.safetensors', weights)).toBe(
    digestOf('model.safetensors', readFileSync(join(DEMO, 'model.safetensors'))),
  )
  expect(largeFiles().length).toBe(1)
  expect(readdirSync(join(cache, '.locks/models--billfish--demo'))).toEqual([])
})

it('the files that are downloaded are those that are read', () => {
  const read = [
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'vocab.json',
    'merges.txt',
    'added_tokens.json',
    'special_tokens_map.json',
    'qwen.tiktoken',
    'chat_template.jinja',
    'modules.json',
    'config_sentence_transformers.json',
    '1_Pooling/config.json',
    'model.safetensors.index.json',
    ...QUANTIZATION_FILES,
  ]
  expect(read.filter((path) => !isSettings({ path, size: 1 }))).toEqual([])
  const others = [
    'pytorch_model.bin.index.json',
    'original/params.json',
    'README.md',
    'model.gguf',
    'modeling.py',
    'x.pt',
  ]
  expect(others.filter((path) => isSettings({ path, size: 1 }))).toEqual([])
  const fixture = readdirSync(modelDirectory('qwen2-gptq-int4-g128'))
  expect(fixture.filter((path) => isSettings({ path, size: 1 }))).toContain('config.json')
})
