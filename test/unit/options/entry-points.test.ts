/** Every public function that takes options, against everything that is not what it takes. */
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  BillfishError,
  type ChatOptions,
  type DownloadOptions,
  devices,
  discoverDevices,
  downloadModel,
  type GenerateOptions,
  type InferModules,
  type InferOptions,
  inferDeviceMap,
  type LoadOptions,
  layerSplit,
  loadModel,
  loadTokenizer,
  type Model,
  type PadOptions,
  type PlanOptions,
  padCheckpoint,
  parseMemorySize,
  planModel,
} from '../../../src/index'
import { scratchDirectory } from '../../support/directories'
import { modelDirectory } from '../../support/fixtures'
import { refusal } from '../../support/refusals'

const directory = modelDirectory('qwen2-gptq-int4-g128')
const demo = resolve(__dirname, '../../../examples/demo-model')
const dense = modelDirectory('qwen2-bf16')
const outputs = scratchDirectory()
const modules: InferModules = { modules: { a: 1 }, leaves: { mean_bytes: 1 } }
let model: Model
let talker: Model // it has a tokenizer
beforeAll(async () => {
  talker = await loadModel(demo, { deviceMap: 'cpu' })
  model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64 })
})
afterAll(() => Promise.all([model.dispose(), talker.dispose()]))

const sizes = 'dtype maxModelLength maxSequences maxBatchTokens maxCacheTokens tensorParallelSize'.split(' ')
const placement = 'deviceMap devices maxMemory deviceOverhead'.split(' ')
const sampling =
  'maxNewTokens minNewTokens temperature topK topP minP repetitionPenalty presencePenalty frequencyPenalty seed ' +
  'logitBias stop stopTokenIds logprobs ignoreEos cacheSalt signal addSpecialTokens chatTemplate'

/** Each function with one argument, its options, and their names. */
const entries: [string, (options: never) => unknown, string[]][] = [
  [
    'loadModel()',
    (options: LoadOptions) => loadModel(directory, options),
    [
      ...sizes,
      ...placement,
      'plan',
      'microBatches',
      'prefixCache',
      'speculation',
      'offloadDirectory',
      'signal',
      'onProgress',
    ],
  ],
  ['planModel()', (options: PlanOptions) => planModel('Qwen3-8B', options), [...sizes, ...placement, 'signal']],
  [
    'padCheckpoint()',
    (options: PadOptions) => padCheckpoint(dense, join(outputs, 'padded'), options),
    'parallelSizes to placement groupSize dryRun verify signal onProgress'.split(' '),
  ],
  ['model.forward()', (options: never) => model.forward([1], options), ['hiddenStates', 'signal']],
  ['model.generate()', (options: GenerateOptions) => model.generate([1], options).result(), sampling.split(' ')],
  [
    'model.chat()',
    (options: ChatOptions) => talker.chat([{ role: 'user', content: 'a' }], options).result(),
    [
      ...sampling.split(' ').filter((name) => name !== 'addSpecialTokens'),
      ...'tools toolChoice schema parallelToolCalls toolFormat reasoningFormat reasoningEffort'.split(' '),
    ],
  ],
  [
    'downloadModel()',
    (options: DownloadOptions) => downloadModel('owner/name', options),
    'revision token cacheDir endpoint offline files onProgress signal'.split(' '),
  ],
  ['loadTokenizer()', (options: never) => loadTokenizer(directory, options), ['signal']],
  ['devices()', (options: never) => devices(options), ['emulated']],
  ['devices()', (options: never) => discoverDevices(options), ['emulated']],
  ['inferDeviceMap()', (options: InferOptions) => inferDeviceMap(modules, options), ['strategy', 'maxMemory']],
  ["inferDeviceMap()'s model", (given: InferModules) => inferDeviceMap(given, {} as never), Object.keys(modules)],
]

const thrower = () => {
  throw new RangeError('not today')
}

describe.each(entries)('%s', (of, call, names) => {
  const refused = (options: unknown) => refusal(() => call(options as never))

  test('takes only an object', async () => {
    for (const options of [
      null,
      [],
      ['cpu'],
      7,
      'cpu',
      true,
      () => {},
      1n,
      Symbol('x'),
      new Map(),
      Promise.resolve({}),
    ])
      expect((await refused(options)).message).toMatch(/^(options|model) must be an object, not /)
  })

  test('lists the known options', async () => {
    const { message } = await refused({ zebra: 1 })
    expect(message).toMatch(/^There is no option zebra\. The options of /)
    for (const name of names) expect(message).toContain(name)
  })

  test('suggests the right spelling', async () => {
    for (const name of names) {
      const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      const forms = [`${name}s`, name.toUpperCase(), ...(snake === name ? [] : [snake])]
      for (const form of forms) {
        const { message } = await refused({ [form]: 1 })
        expect(message).toMatch(
          new RegExp(`^There is no option ${form} of .*; (it is called|did you mean) ${name}[.?]`),
        )
      }
    }
  })

  test('refuses values of another type', async () => {
    for (const name of names) {
      const none = [
        null,
        Number.NaN,
        Symbol('x'),
        Promise.resolve(1),
        new Date(),
        [[]],
        { [Symbol.iterator]: 1, x: null },
      ]
      for (const value of none) {
        if (name === 'logitBias' && typeof value === 'object') continue // what is in it is checked with the vocabulary
        expect((await refused({ [name]: value })).message).toContain(name)
      }
    }
  })

  test('turns what getters and Proxies throw into INVALID_OPTION', async () => {
    const [name = ''] = names
    const getter = Object.defineProperty({}, name, { get: thrower, enumerable: true })
    const proxy = new Proxy({}, { ownKeys: thrower })
    for (const options of [getter, proxy, ...(name === 'signal' ? [] : [{ [name]: proxy }])]) {
      const error = await refused(options)
      expect(error.message).toContain('could not be read: not today')
      expect(error.cause).toBeInstanceOf(RangeError)
    }
  })

  test('translates options of other libraries', async () => {
    const foreign: Record<string, string | RegExp> = {
      n_gpu_layers: /each device takes as many layers as it has room for/,
      n_cpu_moe: /model\.layers\.\*\.mlp\.experts/,
      gpu_memory_utilization: /maxMemory/,
      max_model_len: /maxModelLength/,
      max_num_seqs: /maxSequences/,
      max_num_batched_tokens: /maxBatchTokens/,
      tensor_parallel_size: /tensorParallelSize/,
      pipeline_parallel_size: /stages/,
      torch_dtype: /dtype/,
      n_ctx: /maxModelLength/,
      offload_folder: /offloadDirectory/,
      max_memory: /maxMemory/,
      device_map: /deviceMap/,
      max_new_tokens: /maxNewTokens/,
      max_tokens: /maxNewTokens/,
      do_sample: /temperature 0/,
      top_p: /topP/,
      stop_token_ids: /stopTokenIds/,
      trust_remote_code: /no code/,
    }
    for (const [name, message] of Object.entries(foreign)) {
      expect((await refused({ [name]: 1 })).message).toMatch(message)
    }
    expect(of).toBeTruthy()
  })
})

describe('anything inside an option or argument', () => {
  const revoked = Proxy.revocable([], {})
  revoked.revoke()
  const values: unknown[] = [
    Symbol('x'),
    Object.create(null),
    new Proxy({}, { get: thrower }),
    new Proxy(() => {}, { get: thrower }),
    { toString: thrower, toJSON: thrower, valueOf: thrower },
    revoked.proxy,
  ]
  test.each<[string, (value: never) => unknown]>([
    ['devices', (value) => planModel('Qwen3-8B', { devices: [value] })],
    ['a device', (value) => planModel('Qwen3-8B', { devices: [{ device: value }] })],
    ['a memory', (value) => planModel('Qwen3-8B', { devices: [{ device: 'cpu', memory: value }] })],
    ['maxMemory', (value) => planModel('Qwen3-8B', { maxMemory: { cpu: value } })],
    ['deviceMap', (value) => planModel('Qwen3-8B', { deviceMap: { '': value } })],
    ['a plan', (value) => loadModel(directory, { plan: value })],
    [
      "a plan's stages",
      (value) => loadModel(directory, { plan: { deviceMap: {}, sizes: {}, stages: [value] } as never }),
    ],
    ['parallelSizes', (value) => padCheckpoint(dense, join(outputs, 'x'), { parallelSizes: [value] })],
    ['stop', (value) => model.generate([1], { stop: [value] }).result()],
    ['logitBias', (value) => model.generate([1], { logitBias: { 1: value } }).result()],
    ['a token in logitBias', (value) => model.generate([1], { logitBias: new Map([[value, 1]]) }).result()],
    ['a prompt', (value) => model.generate(value).result()],
    ['a token', (value) => model.generate([1, value]).result()],
    ['tokens', (value) => model.forward(value)],
    ['modules', (value) => inferDeviceMap({ ...modules, modules: value }, { strategy: 'auto', maxMemory: { 0: 1 } })],
    ['a step', (value) => model.trace().slice(value)],
  ])('%s is INVALID_OPTION', async (_, call) => {
    for (const value of values) expect((await refusal(() => call(value as never))).message).toBeTruthy()
  })

  test('a config is refused as a checkpoint that has it would be', async () => {
    for (const value of values) {
      await expect(planModel({ model_type: value } as never)).rejects.toBeInstanceOf(BillfishError)
      await expect(planModel({ model_type: 'qwen2', num_hidden_layers: value } as never)).rejects.toBeInstanceOf(
        BillfishError,
      )
    }
  })
})

describe('signals', () => {
  const signalled: [string, (options: never) => unknown][] = entries
    .filter(([, , names]) => names.includes('signal'))
    .map(([of, call]) => [of, call])

  test.each(signalled)('%s refuses incomplete ones', async (_, call) => {
    const listen = () => {}
    const half: unknown[] = [
      {},
      new AbortController(),
      { aborted: false },
      { aborted: false, addEventListener: listen },
      { aborted: 'no', addEventListener: listen, removeEventListener: listen },
      { aborted: false, addEventListener: true, removeEventListener: listen },
      new EventTarget(),
    ]
    for (const signal of half) {
      expect((await refusal(() => call({ signal } as never))).message).toMatch(/^signal is .* an AbortSignal/)
    }
  })

  test.each(signalled)('%s refuses one that throws or cannot be read', async (_, call) => {
    const listen = () => {}
    const throwing: unknown[] = [
      { aborted: false, addEventListener: thrower, removeEventListener: listen },
      Object.defineProperty({ addEventListener: listen, removeEventListener: listen }, 'aborted', { get: thrower }),
    ]
    for (const signal of throwing) {
      expect((await refusal(() => call({ signal } as never))).message).toBe('signal could not be read: not today')
    }
  })
})

describe('onProgress', () => {
  test.each<[string, () => unknown]>([
    ['throws', thrower],
    ['rejects', async () => thrower()],
  ])('that %s ends the call', async (_, onProgress) => {
    await expect(loadModel(directory, { deviceMap: 'cpu', onProgress: onProgress as () => void })).rejects.toThrow(
      'not today',
    )
    const options = { to: 512, onProgress: onProgress as () => void }
    await expect(padCheckpoint(dense, join(outputs, 'padded'), options)).rejects.toThrow('not today')
  })
})

test('padCheckpoint() writes nothing if the option of a dry run is misspelled', async () => {
  const { length } = readdirSync(outputs)
  const output = join(outputs, 'dryrun')
  const options = { parallelSizes: [2, 4], dryrun: true } as PadOptions
  await expect(padCheckpoint(dense, output, options)).rejects.toThrow(/it is called dryRun/)
  expect(readdirSync(outputs).length).toBe(length)
})

test('options are read once: later changes of the object have no effect', async () => {
  const options = { deviceMap: { '': 'cpu:0' }, maxModelLength: 64 }
  const loading = loadModel(directory, options)
  options.deviceMap[''] = 'nowhere'
  options.maxModelLength = 0
  await using loaded = await loading
  expect(loaded.deviceMap.lm_head).toBe('cpu:0')
  expect(loaded.limits.maxModelLength).toBe(64)
})

describe('first arguments', () => {
  const none = [undefined, null, 7, '', Buffer.from(directory), Symbol('x'), [], new URL('https://example.org/model')]

  test.each<[string, (path: never) => unknown]>([
    ['loadModel()', (path) => loadModel(path, { deviceMap: 'cpu' })],
    ['planModel()', (path) => planModel(path)],
    ['loadTokenizer()', (path) => loadTokenizer(path)],
    ['padCheckpoint()', (path) => padCheckpoint(path, join(outputs, 'x'), { to: 512 })],
    ["padCheckpoint()'s output", (path) => padCheckpoint(dense, path, { to: 512 })],
  ])('%s takes only paths and file: URLs', async (_, call) => {
    for (const path of none) {
      expect((await refusal(() => call(path as never))).message).toMatch(/^(directory|model|output) is /)
    }
  })

  test('a directory may be a file: URL', async () => {
    await using loaded = await loadModel(pathToFileURL(directory), { deviceMap: 'cpu', maxModelLength: 64 })
    expect(loaded.deviceMap).toEqual((await planModel(pathToFileURL(directory), { deviceMap: 'cpu' })).deviceMap)
  })

  test('a config must be plain data', async () => {
    const circular: Record<string, unknown> = { ...model.config }
    circular.text_config = circular
    expect((await refusal(() => planModel(circular))).message).toBe('model contains itself.')
    const getter = Object.defineProperty({}, 'model_type', { get: thrower, enumerable: true })
    expect((await refusal(() => planModel(getter))).message).toBe('model could not be read: not today')
    for (const config of [{}, Object.create(null), { model_type: 'qwen2' }, new Date()])
      await expect(planModel(config as never)).rejects.toBeInstanceOf(BillfishError)
  })
})

describe('layerSplit()', () => {
  test('takes the number of GPUs, as scripts that split layers do', () => {
    expect(layerSplit(4, 80)).toEqual(layerSplit(['cuda:0', 'cuda:1', 'cuda:2', 'cuda:3'], 80))
    expect(layerSplit([0, 'cpu'], 2)).toMatchObject({ 'model.embed_tokens': 'cuda:0', lm_head: 'cpu' })
  })

  test.each<[string, unknown[], RegExp]>([
    ['swapped numbers', [80, 4], /80 GPUs for 4 layers. The first argument is devices, the second layers/],
    ['swapped devices', [80, ['cuda:0']], /layers is \["cuda:0"\], .*; the first argument is devices/],
    ['a name', ['cuda:0', 80], /devices is "cuda:0", but must be an array/],
    ['no devices', [[], 80], /devices is empty/],
    ['nothing', [], /layers is undefined/],
    ['null', [null, 80], /devices is null/],
    ['zero', [0, 80], /devices is 0/],
    ['half a GPU', [1.5, 80], /devices is 1.5/],
    ['no number', [Number.NaN, 80], /devices is NaN/],
    ['a text', [4, '80'], /layers is "80", but must be a whole number from 1 to 10000/],
    ['endless layers', [4, 1e9], /layers is 1000000000/],
    ['no device', [['tpu'], 80], /layerSplit: devices: "tpu" is not a device/],
    ['a symbol', [[Symbol('x')], 80], /a symbol is not a device/],
    ['a bigint', [4n, 80], /devices is 4n/],
    ['wrong names', [4, 80, { embed: 'wte' }], /no option layerSplit: names.embed/],
    ['null as names', [4, 80, null], /layerSplit: names is null/],
  ])('refuses %s', async (_, args, message) => {
    const { message: said } = await refusal(() => (layerSplit as (...args: unknown[]) => unknown)(...args))
    expect(said).toMatch(message)
  })
})

test('parseMemorySize() takes only strings and numbers', async () => {
  const circular: Record<string, unknown> = {}
  circular.self = circular
  for (const size of [null, undefined, {}, circular, 5n, Symbol('5GB'), () => 5, [5], '', 'x'.repeat(1e6)]) {
    const { message } = await refusal(() => parseMemorySize(size as never))
    expect(message).toMatch(/is not a memory size/)
    expect(message.length).toBeLessThan(400)
  }
  expect((await refusal(() => parseMemorySize('x', Symbol('size') as never))).message).toMatch(/^a symbol: "x" is not/)
})

test('a string that is too long for a path is shortened in the message', async () => {
  const path = 'x'.repeat(1e6)
  const calls = [
    () => loadModel(path),
    () => planModel(path),
    () => loadTokenizer(path),
    () => padCheckpoint(path, 'out', { parallelSizes: [2] }),
    () => padCheckpoint(dense, path, { parallelSizes: [2] }),
    () => loadModel(directory, { deviceMap: 'disk', offloadDirectory: path }),
  ]
  for (const call of calls) expect((await refusal(call)).message.length).toBeLessThan(400)
  const { message } = await refusal(() => padCheckpoint(dense, join(outputs, 'x'.repeat(300)), { parallelSizes: [2] }))
  expect(message).toMatch(/cannot be written: ENAMETOOLONG/)
})

test("names of other programs' options are explained", async () => {
  const names =
    'enable_thinking tool_choice mirostat typical_p no_repeat_ngram_size bad_words_ids stopping_criteria assistant_model ' +
    'echo include_stop_str_in_output system'
  for (const name of names.split(' '))
    expect((await refusal(() => model.generate([1], { [name]: 1 }))).message).toMatch(/^There is no option \w+: /)
  await using tokenizer = await loadTokenizer(demo)
  for (const name of ['return_tensors', 'truncation'])
    expect((await refusal(() => tokenizer.encode('x', { [name]: 1 }))).message).toMatch(/^There is no option \w+: /)
})
