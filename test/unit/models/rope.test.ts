import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ConfigReader } from '../../../src/models/config-reader'
import { createModel } from '../../../src/models/registry'
import { qwenDynamicRope, ropeFromConfig } from '../../../src/models/rope'
import { configWeights } from '../../../src/placement/plan-model'
import { modelDirectory } from '../../support/fixtures'

// The expected numbers were computed in double precision after transformers' modeling_rope_utils.py.
const rope = (config: Record<string, unknown>, headDim = 128) =>
  ropeFromConfig(new ConfigReader(config), headDim, 10000)
const expectFrequencies = (actual: Float32Array, expected: Record<number, number>) => {
  for (const [pair, frequency] of Object.entries(expected)) {
    expect(Math.abs((actual[Number(pair)] as number) / frequency - 1), `pair ${pair}`).toBeLessThan(3e-7)
  }
}

// Qwen2.5's long-context setting and Llama 3.1's.
const yarn = { factor: 4, original_max_position_embeddings: 32768 }
const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }

describe.each([
  [
    'transformers 4',
    (theta: number, type: string, scaling: object) => ({ rope_theta: theta, rope_scaling: { type, ...scaling } }),
  ],
  [
    'transformers 4.45',
    (theta: number, type: string, scaling: object) => ({
      rope_theta: theta,
      rope_scaling: { rope_type: type, ...scaling },
    }),
  ],
  [
    'transformers 5',
    (theta: number, type: string, scaling: object) => ({
      rope_parameters: { rope_theta: theta, rope_type: type, ...scaling },
    }),
  ],
])('as %s writes it', (_, config) => {
  test('default', () => {
    const { inverseFrequency, scale } = rope(config(1e4, 'default', {}), 64)
    expect(inverseFrequency).toHaveLength(32)
    expectFrequencies(inverseFrequency, { 0: 1, 8: 0.1, 16: 0.01, 24: 0.001 })
    expect(scale).toBe(1)
  })

  test('linear', () => {
    expectFrequencies(rope(config(1e4, 'linear', { factor: 4 }), 64).inverseFrequency, {
      0: 0.25,
      8: 0.025,
      24: 0.00025,
    })
  })

  test('dynamic', () => {
    const { baseFor } = rope({ ...config(1e4, 'dynamic', { factor: 2 }), max_position_embeddings: 2048 }, 64)
    expect(baseFor(100, 2048)).toBe(0)
    expect(baseFor(100, 2049)).toBeCloseTo(10010.0808, 3)
    expect(baseFor(4096, 512)).toBeCloseTo(31082.2367, 3) // all pieces of a long prompt, as if it came whole
    expect(baseFor(1, 10000)).toBeCloseTo(94014.5861, 3)
  })

  test('yarn', () => {
    const { inverseFrequency, scale } = rope(config(1e6, 'yarn', yarn))
    expect(scale).toBeCloseTo(1.138629436111989, 9)
    expectFrequencies(inverseFrequency, {
      0: 1,
      10: 0.1154781984689458,
      20: 0.01333521432163324,
      30: 0.0010643609812470017,
      35: 0.0002462584069089387,
      40: 4.445698525097307e-5,
      50: 5.133812566142866e-6,
      63: 3.102344401879299e-7,
    })
    expect(rope(config(1e6, 'yarn', { ...yarn, attention_factor: 1.5 })).scale).toBe(1.5)
  })

  test('llama3', () => {
    expectFrequencies(rope(config(5e5, 'llama3', llama3)).inverseFrequency, {
      0: 1,
      10: 0.12868737343265052,
      20: 0.016560440080994446,
      28: 0.0032114459947525913,
      30: 0.0013718935677611381,
      33: 0.00031269375038406517,
      36: 7.78465527393245e-5,
      40: 3.428102195952591e-5,
      63: 3.068925988914511e-7,
    })
  })

  test('a share of the head', () => {
    expect(rope(config(1e4, 'default', { partial_rotary_factor: 0.5 }), 64).inverseFrequency.length).toBe(
      'rope_parameters' in config(1, '', {}) ? 16 : 32, // transformers 4 has it beside rope_scaling, see below
    )
    expect(rope({ ...config(1e4, 'default', {}), partial_rotary_factor: 0.25 }, 64).inverseFrequency).toHaveLength(8)
  })
})

test('Qwen v1: the base grows with the prompt and stays while decoding', () => {
  const { baseFor } = qwenDynamicRope(10000, 128, 2048)
  const grown = (alpha: number) => 10000 * alpha ** (128 / 126)
  expect([1, 2048].map((length) => baseFor(length, 9999))).toEqual([0, 0])
  expect([2049, 4096, 4097].map((length) => baseFor(length, length))).toEqual([grown(3), grown(3), grown(7)])
})

test.each([
  [{ rope_scaling: { type: 'su' } }, 'UNSUPPORTED_MODEL', /"su" is not supported; use default, linear/],
  [{ rope_scaling: { type: 'linear' } }, 'INVALID_CHECKPOINT', /rope_scaling: factor is missing/],
  [{ rope_scaling: { type: 'linear', factor: -1 } }, 'INVALID_CHECKPOINT', /factor is -1/],
  [
    { rope_scaling: { rope_type: 'llama3', ...llama3, high_freq_factor: 1 } },
    'INVALID_CHECKPOINT',
    /high_freq_factor is 1/,
  ],
  [{ rope_theta: 0 }, 'INVALID_CHECKPOINT', /rope_theta is 0/],
  [{ rope_scaling: [] }, 'INVALID_CHECKPOINT', /rope_scaling is \[\]/],
  [{ partial_rotary_factor: 2 }, 'INVALID_CHECKPOINT', /partial_rotary_factor is 2/],
])('%j is refused', (config, code, message) => {
  expect(() => rope(config)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
})

describe('numbers that make no rotation of fp32 numbers are refused, with the key', () => {
  const long = { original_max_position_embeddings: 8192 }
  test.each([
    ...[1e-30, 0.5, 0, -1e4, 1e16, 1e30, '1e4', Number.POSITIVE_INFINITY].map(
      (base): [Record<string, unknown>, RegExp] => [
        { rope_theta: base },
        /rope_theta is .*, but must be a number from 2 to 1000000000000000\./,
      ],
    ),
    ...['linear', 'dynamic', 'yarn', 'llama3'].flatMap((type) =>
      [1e-30, 1e-4, 0, -2, 1e7, 1e30, Number.NaN, '4', true].map((factor): [Record<string, unknown>, RegExp] => [
        { rope_scaling: { type, factor, low_freq_factor: 1, high_freq_factor: 4, ...long } },
        /rope_scaling: factor is .*, but must be a number from 0\.0009765625 to 1048576\./,
      ]),
    ),
    [
      { rope_scaling: { type: 'llama3', factor: 8, low_freq_factor: 1e-30, high_freq_factor: 4, ...long } },
      /low_freq_factor is 1e-30/,
    ],
    [
      { rope_scaling: { type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 1e30, ...long } },
      /high_freq_factor is 1e\+30/,
    ],
    [{ rope_scaling: { type: 'yarn', factor: 4, beta_slow: 1e30, ...long } }, /beta_slow is 1e\+30/],
    [{ rope_scaling: { type: 'yarn', factor: 4, mscale: 1e9, mscale_all_dim: 1, ...long } }, /mscale is 1000000000/],
    [{ rope_scaling: { type: 'yarn', factor: 4, mscale: -1e9, mscale_all_dim: 1, ...long } }, /mscale is -1000000000/],
    [{ rope_theta: 1e-300 }, /rope_theta is 1e-300/],
    [{ rope_theta: 1e300 }, /rope_theta is 1e\+300/],
    [{ rope_theta: Number.NaN }, /rope_theta is NaN/],
    [{ rope_parameters: { rope_theta: 1e60 } }, /rope_parameters: rope_theta is 1e\+60/],
    [{ rope_scaling: { type: 'linear', factor: 1e-300 } }, /rope_scaling.*1e-300/],
    [{ rope_scaling: { type: 'linear', factor: 1e300 } }, /rope_scaling.*1e\+300/],
    [{ rope_scaling: { type: 'linear', factor: 1e-36 } }, /rope_scaling.*1e-36/], // infinite at the later positions
    [{ rope_scaling: { type: 'linear', factor: Number.POSITIVE_INFINITY } }, /rope_scaling: factor is Infinity/],
    [{ rope_scaling: { type: 'dynamic', factor: 1e300 } }, /rope_scaling.*1e\+300/],
    [{ rope_scaling: { type: 'llama3', low_freq_factor: 1, high_freq_factor: 4, factor: 1e-300, ...long } }, /1e-300/],
    [{ rope_scaling: { type: 'yarn', factor: 1e300, ...long } }, /rope_scaling.*1e\+300/],
    [{ rope_scaling: { type: 'yarn', factor: 4, attention_factor: 1e300, ...long } }, /attention_factor is 1e\+300/],
    [{ rope_scaling: { type: 'yarn', factor: 4, attention_factor: 1e-300, ...long } }, /attention_factor is 1e-300/],
    [{ rope_theta: 1, rope_scaling: { type: 'yarn', factor: 4, ...long } }, /rope_theta is 1,/],
    [{ rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 0 } }, /original_max_position_emb/],
    [{ rope_scaling: { type: 'yarn', factor: 4, beta_fast: -1, ...long } }, /beta_fast is -1/],
  ])('%j', (config, message) => {
    expect(() => rope(config)).toThrow(
      expect.objectContaining({ code: 'INVALID_CHECKPOINT', message: expect.stringMatching(message) }),
    )
  })

  test('Qwen v1', () => {
    const name = 'qwen1-fp16'
    const config = JSON.parse(readFileSync(join(modelDirectory(name), 'config.json'), 'utf8'))
    expect(() => createModel({ ...config, rotary_emb_base: 1e-300 }, configWeights(config))).toThrow(
      expect.objectContaining({
        code: 'INVALID_CHECKPOINT',
        message: expect.stringMatching(/rotary_emb_base is 1e-300/),
      }),
    )
  })
})

test('parameters for each type of layer are refused', () => {
  const nested = { full_attention: { rope_theta: 1e6 }, sliding_attention: { rope_theta: 1e4 } }
  expect(() => rope({ rope_parameters: nested })).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED_MODEL',
      message: expect.stringMatching(/rope_parameters.*each type/),
    }),
  )
})

test('rope_scaling counts where a config has rope_parameters too, and the base that stands in it', () => {
  const config = {
    rope_theta: 5,
    rope_scaling: { rope_type: 'linear', factor: 2, rope_theta: 1e4 },
    rope_parameters: { rope_type: 'linear', factor: 8, rope_theta: 7 },
  }
  expectFrequencies(rope(config, 64).inverseFrequency, { 0: 0.5, 8: 0.05 })
})

test('the trained length that stands beside the section counts', () => {
  const scaling = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 4096 }
  const beside = rope({ rope_scaling: scaling, original_max_position_embeddings: 32768 })
  const within = rope({ rope_scaling: { ...scaling, original_max_position_embeddings: 32768 } })
  expect(beside.inverseFrequency).toEqual(within.inverseFrequency)
  expect(beside.inverseFrequency).not.toEqual(rope({ rope_scaling: scaling }).inverseFrequency)
})
