/**
 * The published method at small sizes: one MLP of hidden size 256 whose 384 channels become 512. `mlp.safetensors` has its
 * weights padded both ways by the published expressions, and what transformers' Qwen2MLP computes with the unpadded ones.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { padCheckpoint } from '../../../src/padding/pad-checkpoint'
import { paddingRuns, ZEROS } from '../../../src/quantization/padding'
import { directoryOf } from '../../support/directories'
import { floatsOf, readSafetensors, type StoredTensor, safetensors } from '../../support/tensors'

const fixture = resolve(__dirname, '../../fixtures/pad')
const { hidden, intermediate, padded } = JSON.parse(readFileSync(join(fixture, 'golden.json'), 'utf8'))
const stored = readSafetensors(join(fixture, 'mlp.safetensors'))
const tensor = (name: string) => stored.get(name) as StoredTensor
const copyOf = ({ data }: StoredTensor) =>
  data.buffer.slice(data.byteOffset, data.byteOffset + data.length) as ArrayBuffer
const parts = ['gate_proj', 'up_proj', 'down_proj']
const rows = 19

const config = {
  model_type: 'qwen2',
  hidden_size: hidden,
  intermediate_size: intermediate,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  vocab_size: 32,
}

function checkpoint(): string {
  const tensors = parts.map((part) => [`model.layers.0.mlp.${part}.weight`, tensor(`original.${part}.weight`)])
  return directoryOf({ 'config.json': config, 'model.safetensors': safetensors(Object.fromEntries(tensors)) })
}

/** W x in fp64. */
function multiply(weights: Float32Array, x: Float64Array): Float64Array {
  const y = new Float64Array(weights.length / x.length)
  for (const [k, value] of x.entries()) {
    for (let n = 0; n < y.length; n++) y[n] = (y[n] as number) + value * (weights[n * x.length + k] as number)
  }
  return y
}

/** x [19, hidden] through the MLP whose channels are `from` to `to` of the padded ones: what a rank computes. */
function mlp(written: ReadonlyMap<string, StoredTensor>, from: number, to: number): Float64Array {
  const weightsOf = (part: string) => floatsOf(written.get(`model.layers.0.mlp.${part}.weight`) as StoredTensor)
  const [gate, up, down] = [weightsOf('gate_proj'), weightsOf('up_proj'), weightsOf('down_proj')]
  const x = new Float32Array(copyOf(tensor('x')))
  const y = new Float64Array(rows * hidden)
  for (let row = 0; row < rows; row++) {
    const input = Float64Array.from(x.subarray(row * hidden, (row + 1) * hidden))
    const ups = multiply(up, input)
    const product = multiply(gate, input).map((g, i) =>
      i >= from && i < to ? (g / (1 + Math.exp(-g))) * (ups[i] as number) : 0,
    )
    y.set(multiply(down, product), row * hidden)
  }
  return y
}

/** The fixture's zeros are of either sign, those of the published expressions and of billfish positive. */
function withPositiveZeros(data: Buffer): Uint16Array {
  const halves = new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length) as ArrayBuffer)
  return halves.map((bits) => (bits === 0x8000 ? 0 : bits))
}

function furthest(actual: Float64Array, expected: Float32Array | Float64Array): number {
  expect(actual.length).toBe(expected.length)
  return actual.reduce((max, value, i) => Math.max(max, Math.abs(value - (expected[i] as number))), 0)
}

describe.each(['tail', 'interleaved'] as const)('%s', (placement) => {
  it('puts every channel where the published method does', () => {
    const channels = paddingRuns(intermediate, padded, placement).flatMap(({ start, count }) =>
      Array.from({ length: count }, (_, i) => (start === ZEROS ? -1 : start + i)),
    )
    expect(channels).toEqual([...new Int32Array(copyOf(tensor(`${placement}.source_channel`)))])
  })

  it('writes its weights bit for bit, and they compute the golden whole and cut for 2 and 4', async () => {
    const path = join(directoryOf({}), 'out')
    const result = await padCheckpoint(checkpoint(), path, { parallelSizes: [2, 4], placement })
    expect(result).toMatchObject({
      written: true,
      size: intermediate,
      paddedSize: padded,
      multiple: 512,
      layerCount: 1,
    })
    expect(result.verification).toMatchObject({ layers: 1, maxDifference: 0 })
    const written = readSafetensors(join(path, 'model.safetensors'))
    for (const part of parts) {
      const expected = tensor(`${placement}.${part}.weight`)
      const actual = written.get(`model.layers.0.mlp.${part}.weight`) as StoredTensor
      expect(actual.shape).toEqual(expected.shape)
      expect(withPositiveZeros(actual.data), part).toEqual(withPositiveZeros(expected.data))
    }
    expect(furthest(mlp(written, 0, padded), new Float64Array(copyOf(tensor('y_fp64'))))).toBeLessThan(1e-12)
    for (const ranks of [2, 4]) {
      const partial = new Float32Array(copyOf(tensor(`${placement}.tp${ranks}.partial`)))
      const sum = new Float64Array(rows * hidden)
      for (let rank = 0; rank < ranks; rank++) {
        const y = mlp(written, (padded / ranks) * rank, (padded / ranks) * (rank + 1))
        const expected = partial.subarray(rank * y.length, (rank + 1) * y.length)
        expect(furthest(y, expected)).toBeLessThan(2e-5)
        for (const [i, value] of y.entries()) sum[i] = (sum[i] as number) + value
      }
      expect(furthest(sum, new Float32Array(copyOf(tensor('y'))))).toBeLessThan(2e-5)
    }
  })
})
