/** Vision-language models, of which the language model is read; and code that comes with a model. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, padCheckpoint, planModel } from '../../../src'
import { checkpointWarnings } from '../../../src/models/registry'
import { textModelConfig } from '../../../src/models/text-model-config'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { changedCopy, withConfig } from '../../support/fixture-copies'
import { modelDirectory } from '../../support/fixtures'

const prompt = [3, 17, 88, 5, 201, 44, 9, 120, 77, 250, 31, 2]
type Json = Record<string, unknown>

async function logitsOf(directory: string, options: LoadOptions = {}): Promise<Float32Array> {
  await using model = await loadModel(directory, {
    dtype: 'float32',
    maxModelLength: 64,
    deviceMap: 'cpu',
    ...options,
  })
  return (await model.forward(prompt)).logits
}

const onCpu = { deviceMap: 'cpu', maxMemory: { cpu: '1GB' } }
const configOf = (name: string): Json => JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))

describe('M-RoPE of text is plain rope, bit for bit', () => {
  test.each(['qwen2-vl-bf16', 'qwen2-5-vl-gptq-int4', 'qwen3-vl-bf16', 'qwen3-vl-moe-bf16'])('%s', async (name) => {
    const own = configOf(name)
    const text = (own.text_config ?? own) as Json
    const plain = withConfig(name, () => ({
      ...text,
      model_type: name.includes('moe') ? 'qwen3_moe' : name.startsWith('qwen3') ? 'qwen3' : 'qwen2',
      rope_scaling: null,
      quantization_config: own.quantization_config,
    }))
    expect(await logitsOf(modelDirectory(name))).toEqual(await logitsOf(plain))
  })
})

describe('the parts of a config', () => {
  const base = 'qwen2-bf16'
  /** The fixture as a part of something else; its tensors as released there. */
  const wrapped = (change: (text: Json) => Json, prefix = 'model.language_model.', from = base) =>
    changedCopy(modelDirectory(from), (copy) => {
      copy.config = change(copy.config)
      copy.tensors = new Map([...copy.tensors].map(([name, tensor]) => [name.replace(/^model\./, prefix), tensor]))
    })

  test.each<[string, (text: Json) => Json, string]>([
    ['qwen2_5_vl', (text) => ({ model_type: 'qwen2_5_vl', text_config: text }), 'model.language_model.'],
    [
      'qwen2_vl with keys of its text model at the top',
      ({ torch_dtype, tie_word_embeddings, eos_token_id, ...text }) => ({
        model_type: 'qwen2_vl',
        torch_dtype,
        tie_word_embeddings,
        eos_token_id,
        text_config: { ...text, model_type: 'qwen2_vl_text' },
      }),
      'language_model.model.',
    ],
    ['qwen2_vl, flat', (text) => ({ ...text, model_type: 'qwen2_vl', vision_config: {} }), 'model.'],
    ['the text model alone', (text) => ({ ...text, model_type: 'qwen2_5_vl_text' }), ''],
    ['llava', (text) => ({ model_type: 'llava', text_config: text, vision_config: {} }), 'language_model.model.'],
    ['internvl', (text) => ({ model_type: 'internvl', text_config: text }), 'model.language_model.'],
    [
      'rope_parameters of transformers 5',
      ({ rope_theta, torch_dtype, ...text }) => ({
        model_type: 'qwen2_5_vl',
        text_config: {
          ...text,
          dtype: torch_dtype,
          rope_parameters: { rope_theta, rope_type: 'default', mrope_section: [4, 6, 6], mrope_interleaved: true },
        },
      }),
      'model.language_model.',
    ],
    [
      'a rope_scaling of type mrope',
      (text) => ({ ...text, model_type: 'qwen2_vl', rope_scaling: { rope_type: 'mrope', mrope_section: [4, 6, 6] } }),
      'model.',
    ],
  ])('%s', async (_, change, prefix) => {
    const directory = wrapped(change, prefix)
    expect(await logitsOf(directory)).toEqual(await logitsOf(modelDirectory(base)))
    expect((await planModel(directory, onCpu)).stages).toEqual((await planModel(modelDirectory(base), onCpu)).stages)
    await using model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64 })
    const of = { maxNewTokens: 8, temperature: 0 }
    const answer = await model.generate(prompt, of).result()
    await using plain = await loadModel(modelDirectory(base), { deviceMap: 'cpu', maxModelLength: 64 })
    expect(answer.tokenIds).toEqual((await plain.generate(prompt, of).result()).tokenIds)
  })

  test('missing keys have the defaults of the class', () => {
    const { config } = textModelConfig({ model_type: 'llava', text_config: { model_type: 'mistral' } })
    expect(config).toMatchObject({ hidden_size: 4096, num_key_value_heads: 8, sliding_window: 4096 })
    const nulled = textModelConfig({
      model_type: 'mistral3',
      text_config: { model_type: 'mistral', sliding_window: null },
    })
    expect(nulled.config.sliding_window).toBeNull()
    expect(textModelConfig({ model_type: 'qwen2_vl' }).config).toMatchObject({ rms_norm_eps: 1e-5, rope_theta: 1e6 })
    expect(textModelConfig({ model_type: 'llava', text_config: {} }).config).toMatchObject({ vocab_size: 32_000 })
  })

  test('either place may say that the head is the embedding', async () => {
    const original = await logitsOf(modelDirectory('qwen2-tied-fp16'))
    for (const [above, within] of [
      [true, undefined],
      [undefined, true],
      [false, true],
    ]) {
      const directory = wrapped(
        (text) => ({
          model_type: 'qwen2_5_vl',
          tie_word_embeddings: above,
          text_config: { ...text, tie_word_embeddings: within },
        }),
        'model.language_model.',
        'qwen2-tied-fp16',
      )
      expect(await logitsOf(directory)).toEqual(original)
    }
  })

  test.each<[string, Json, string, RegExp]>([
    [
      'another language model',
      { model_type: 'llava', text_config: { model_type: 'gemma' } },
      'UNSUPPORTED_MODEL',
      /gemma.*llava/,
    ],
    [
      'another whole',
      { model_type: 'paligemma', text_config: { model_type: 'qwen2' } },
      'UNSUPPORTED_MODEL',
      /paligemma/,
    ],
    [
      'experts without a rotary base',
      { model_type: 'qwen3_vl_moe', text_config: {} },
      'INVALID_CHECKPOINT',
      /rope_theta/,
    ],
    ['an unknown hybrid', { model_type: 'qwen4_exp', text_config: {} }, 'UNSUPPORTED_MODEL', /qwen4_exp/],
    [
      'a list',
      { model_type: 'qwen2_vl', text_config: [] },
      'INVALID_CHECKPOINT',
      /text_config is \[\], but must be an/,
    ],
    [
      'no base of the rotary embedding',
      { model_type: 'qwen3_vl', text_config: { hidden_size: 128 } },
      'INVALID_CHECKPOINT',
      /config\.json: text_config: rope_theta is missing/,
    ],
    [
      'a key that asks for what is not computed',
      { ...configOf('qwen2-vl-bf16'), alibi: true },
      'UNSUPPORTED_MODEL',
      /alibi/,
    ],
    [
      'such a key within',
      { model_type: 'qwen2_vl', text_config: { ...configOf('qwen2-vl-bf16'), num_experts: 8 } },
      'UNSUPPORTED_MODEL',
      /config\.json: text_config: num_experts is 8/,
    ],
  ])('%s is refused', async (_, config, code, message) => {
    const directory = withConfig('qwen2-vl-bf16', () => config)
    for (const use of [loadModel, planModel]) {
      await expect(use(directory)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    }
  })

  test('a plan from the config alone counts the language model', async () => {
    const { stages } = await planModel(configOf('qwen2-5-vl-gptq-int4'), onCpu)
    expect(stages).toEqual((await planModel(modelDirectory('qwen2-5-vl-gptq-int4'), onCpu)).stages)
  })
})

test('pad finds layers under every prefix that loading knows', async () => {
  const directory = changedCopy(modelDirectory('qwen2-bf16'), (copy) => {
    copy.config = { model_type: 'smolvlm', text_config: copy.config }
    copy.tensors = new Map([...copy.tensors].map(([n, t]) => [n.replace(/^model\./, 'model.text_model.'), t]))
  })
  const result = await padCheckpoint(directory, `${directory}-padded`, { to: 512 })
  expect(result).toMatchObject({ layers: 'model.text_model.layers', paddedSize: 512 })
  expect(await logitsOf(`${directory}-padded`)).toEqual(await logitsOf(directory))
})

describe('what a user should know', () => {
  const notices = async (name: string, change: Json) =>
    checkpointWarnings(await openCheckpoint(withConfig(name, (config) => ({ ...config, ...change })))).join('\n')

  test('that a vision tower is left out', async () => {
    expect(await notices('qwen2-vl-bf16', {})).toMatch(/config\.json: model_type qwen2_vl is a vision-language model/)
    expect(await notices('qwen2-bf16', {})).toBe('')
  })

  test.each<[string, unknown, RegExp | string]>([
    [
      'qwen2-bf16',
      { AutoModelForCausalLM: 'modeling_my.MyForCausalLM' },
      /auto_map refers to .*"modeling_my\.MyForCausalLM"/,
    ],
    ['llama-bf16', { AutoModel: 'someone/repo--modeling_x.XModel' }, /"someone\/repo--modeling_x\.XModel"/],
    ['qwen3-bf16', { AutoConfig: 'configuration_my.MyConfig', AutoModel: ['modeling.A', null] }, /"modeling\.A"/],
    ['qwen2-bf16', { AutoConfig: 'configuration_my.MyConfig', AutoTokenizer: ['tokenization.T', null] }, ''],
    ['qwen2-bf16', {}, ''],
    ['qwen2-bf16', ['modeling'], ''],
    ['qwen2-bf16', null, ''],
    ['qwen1-fp16', { AutoModelForCausalLM: 'modeling_qwen.QWenLMHeadModel' }, ''],
  ])('that code of %s is not run: %j', async (name, auto_map, expected) => {
    const said = await notices(name, { auto_map })
    if (expected === '') expect(said).toBe('')
    else expect(said).toMatch(expected)
  })

  test('is reported once while loading', async () => {
    const directory = withConfig('qwen2-bf16', (config) => ({ ...config, auto_map: { AutoModel: 'modeling_x.Y' } }))
    const warnings: (Error & { code?: string })[] = []
    const listen = (warning: Error) => warnings.push(warning)
    process.on('warning', listen)
    try {
      for (let i = 0; i < 2; i++) await (await loadModel(directory, { deviceMap: 'cpu' })).dispose()
      await new Promise(setImmediate)
    } finally {
      process.off('warning', listen)
    }
    expect(warnings.filter(({ code }) => code === 'BILLFISH_CHECKPOINT').map(({ message }) => message)).toEqual([
      expect.stringContaining(`${directory}/config.json: auto_map refers to custom model code`),
    ])
  })
})

test('images are refused', async () => {
  await using model = await loadModel(modelDirectory('qwen2-vl-bf16'), { deviceMap: 'cpu', maxModelLength: 64 })
  const image = { role: 'user', content: [{ type: 'image', image: 'x.png' }] }
  expect(() => model.generate([image] as never)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
})
