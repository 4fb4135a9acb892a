/** What tensor parallelism refuses, when planning and when loading: the same, before anything is allocated. */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, planModel } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { billfish } from '../../support/programs'
import { randomCheckpoint } from '../../support/random-checkpoint'

const model = {
  model_type: 'qwen2',
  torch_dtype: 'float16',
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 96,
  vocab_size: 64,
  max_position_embeddings: 64,
}

const group = (kind: string, ranks: number) => Array.from({ length: ranks }, (_, i) => `${kind}:${i}`).join(',')
const whole = 'but must be a whole number from 1 to 64.'

// Values that a program in JavaScript may give, whatever the types say.
const cases: [string, object, string][] = [
  ['0', { tensorParallelSize: 0 }, `tensorParallelSize is 0, ${whole}`],
  ['-1', { tensorParallelSize: -1 }, `tensorParallelSize is -1, ${whole}`],
  ['1.5', { tensorParallelSize: 1.5 }, `tensorParallelSize is 1.5, ${whole}`],
  ['65', { tensorParallelSize: 65 }, `tensorParallelSize is 65, ${whole}`],
  ['NaN', { tensorParallelSize: Number.NaN }, `tensorParallelSize is NaN, ${whole}`],
  ['a text', { tensorParallelSize: '2' }, `tensorParallelSize is "2", ${whole}`],
  ['null', { tensorParallelSize: null }, `tensorParallelSize is null, ${whole}`],
  [
    'more ranks than GPUs can be',
    { tensorParallelSize: 9, deviceMap: group('emulated', 9) },
    'tensorParallelSize is 9, but at most 8 GPUs can share a stage. Use 8 or less, and more stages for more devices.',
  ],
  [
    'more ranks than GPUs can be, all on one',
    { tensorParallelSize: 17, deviceMap: 'emulated:0' },
    'tensorParallelSize is 17, but at most 8 GPUs can share a stage.',
  ],
  [
    'a device twice in a group',
    { tensorParallelSize: 3, deviceMap: 'cpu:0,cpu:1,cpu:0' },
    'deviceMap: cpu:0,cpu:1,cpu:0 names cpu:0 twice. Name 3 devices (tensorParallelSize), or one for all ranks.',
  ],
  [
    'a device twice by two of its names',
    { tensorParallelSize: 2, deviceMap: 'cuda, cuda:0' },
    'deviceMap: cuda:0,cuda:0 names cuda:0 twice.',
  ],
  [
    'a device in two groups',
    { tensorParallelSize: 2, deviceMap: { '': 'cpu:0,cpu:1', 'model.layers.1': 'cpu:1,cpu:2' } },
    'deviceMap: cpu:1 is in two groups, cpu:0,cpu:1 and cpu:1,cpu:2. A device must compute all its stages with the same devices',
  ],
  [
    'a device in a group, and by itself',
    { tensorParallelSize: 2, deviceMap: { '': 'cpu:0,cpu:1', lm_head: 'cpu:1' } },
    'deviceMap: cpu:1 is in two groups, cpu:0,cpu:1 and cpu:1.',
  ],
  [
    'a group in another order',
    { tensorParallelSize: 2, deviceMap: { '': 'cpu:0,cpu:1', lm_head: 'cpu:1,cpu:0' } },
    'in the same order (tensorParallelSize); use the same group for all of them.',
  ],
  [
    'groups of several sizes',
    { tensorParallelSize: 2, deviceMap: { '': 'cpu:0,cpu:1', lm_head: 'cpu:2,cpu:3,cpu:4' } },
    'deviceMap: cpu:2,cpu:3,cpu:4 has 3 devices, but tensorParallelSize is 2. Use 2 devices.',
  ],
  [
    'a group without tensorParallelSize',
    { deviceMap: 'cpu:0,cpu:1' },
    'deviceMap: cpu:0,cpu:1 has 2 devices, but tensorParallelSize is 1. Use one device.',
  ],
  [
    'devices of two kinds',
    { tensorParallelSize: 2, deviceMap: 'emulated:0,cpu' },
    'deviceMap: cpu cannot share a stage with emulated:0; tensor parallelism needs devices of one kind.',
  ],
  [
    'GPUs and emulated ones',
    { tensorParallelSize: 2, deviceMap: 'cuda:0,emulated:1' },
    'emulated:1 cannot share a stage with cuda:0',
  ],
  [
    'devices of two kinds to choose from',
    { tensorParallelSize: 2, deviceMap: 'auto', devices: ['cpu:0', 'emulated:0'] },
    'emulated:0 cannot share a stage with cpu:0',
  ],
  [
    'a nameless device in a group',
    { tensorParallelSize: 2, deviceMap: 'cpu:0,' },
    'deviceMap: "" is not a device; use',
  ],
  ['no device', { deviceMap: 'cuda:0,tpu' }, 'deviceMap: "tpu" is not a device; use'],
  [
    'devices that are left over',
    { tensorParallelSize: 2, deviceMap: 'auto', devices: ['cpu:0', 'cpu:1', 'cpu:2'] },
    'devices: 3 devices do not make groups of 2 (tensorParallelSize). Give a multiple of 2, or another tensorParallelSize.',
  ],
  [
    'more ranks than devices',
    { tensorParallelSize: 17, deviceMap: 'auto', devices: Array.from({ length: 16 }, (_, i) => `cpu:${i}`) },
    'devices: 16 devices do not make groups of 17 (tensorParallelSize).',
  ],
  [
    'a strategy that knows no groups',
    { tensorParallelSize: 2, deviceMap: 'balanced', devices: ['cpu:0', 'cpu:1'] },
    "deviceMap 'balanced' is an accelerate strategy, which does not support tensor parallelism. Use 'auto', or give each module its devices.",
  ],
]

test.each(cases)('%s', async (_, options, message) => {
  const refusal = { code: 'INVALID_OPTION', message: expect.stringContaining(message) }
  await expect(planModel(model, options)).rejects.toMatchObject(refusal)
  const directory = directoryOf(randomCheckpoint(model, 1))
  await expect(loadModel(directory, { maxModelLength: 32, ...options } as LoadOptions)).rejects.toMatchObject(refusal)
})

test('impossible sizes are refused before anything is padded', async () => {
  const most = 2 ** 31 - 8
  await expect(planModel({ ...model, intermediate_size: most }, { tensorParallelSize: 3 })).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(/^config\.json: intermediate_size is 2147483640, but/),
  })
})

test('a missing device is named', async () => {
  const directory = directoryOf(randomCheckpoint(model, 1))
  const options = { tensorParallelSize: 2, deviceMap: 'emulated:15,emulated:16' }
  await expect(loadModel(directory, options)).rejects.toMatchObject({
    code: 'DEVICE_NOT_FOUND',
    message: 'There is no device emulated:16: emulated devices are numbered 0 to 15.',
  })
})

describe('works all the same:', () => {
  test.each([
    ['more ranks than key-value heads, than heads and than groups of channels', 17, 'cpu'],
    ['ranks on one device', 3, 'cpu:1'],
    ['more ranks than key-value heads on GPUs', 8, 'emulated:0'],
  ])('%s', async (_, tensorParallelSize, deviceMap) => {
    const quantization_config = { quant_method: 'gptq', bits: 4, group_size: 32, sym: true, desc_act: false }
    const directory = directoryOf(randomCheckpoint({ ...model, quantization_config }, 1))
    const logits = async (options: LoadOptions) => {
      await using loaded = await loadModel(directory, { maxModelLength: 32, ...options })
      return (await loaded.forward([1, 2, 3])).logits
    }
    const alone = await logits({ deviceMap })
    const together = await logits({ deviceMap, tensorParallelSize })
    const off = together.map((value, i) => Math.abs(value - (alone[i] as number)))
    expect(Math.max(...off)).toBeLessThan(0.02)
  })
})

describe('on the command line', () => {
  test.each([
    [['--tensor-parallel-size', '0'], 'tensorParallelSize is 0'],
    [['--tensor-parallel-size', '1.5'], '--tensor-parallel-size'],
    [['--tensor-parallel-size', 'two'], '--tensor-parallel-size'],
    [['--tensor-parallel-size', '3', '--devices', '4x24GiB'], '4 devices do not make groups of 3'],
    [['--tensor-parallel-size', '2', '--device-map', '{"":"cuda:0,cpu"}'], 'cpu cannot share a stage with cuda:0'],
    [['--tensor-parallel-size', '16', '--devices', '16x24GiB'], 'at most 8 GPUs'],
  ])('%j', async (options, message) => {
    const { code, stdout, stderr } = await billfish(['plan', 'Qwen2-72B-Instruct-AWQ-29568', ...options])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr.replace(/\s+/g, ' ')).toContain(message)
  })
})
