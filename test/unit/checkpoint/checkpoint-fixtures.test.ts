import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Checkpoint } from '../../../src/checkpoint/types'
import { describeFormat, listTensors, openCheckpoint } from '../../../src/open-checkpoint'
import { schemeByName } from '../../../src/quantization/compressed-tensors'

const MODELS = join(__dirname, '../../fixtures/models')

interface StoredLinear {
  readonly module: string
  readonly out: number
  readonly in: number
  readonly quantized: boolean
}

/** All linears and other matrices of the checkpoint, with the shapes of their tensors. */
function storedLinears(checkpoint: Checkpoint): StoredLinear[] {
  const { tensors, quantization } = checkpoint
  const linears: StoredLinear[] = []
  for (const { name, shape, dtype } of tensors.values()) {
    const module = name.slice(0, name.lastIndexOf('.'))
    const [rows = 0, columns = 0] = shape
    if (name.endsWith('.qweight')) {
      const out = tensors.get(`${module}.scales`)?.shape[1] ?? 0
      const zeroWords = tensors.get(`${module}.qzeros`)?.shape[1] ?? 0
      const codesAWord = quantization.method === 'gptq' ? out / zeroWords : 1
      linears.push({ module, out, in: rows * codesAWord, quantized: true })
    } else if (name.endsWith('.weight_packed') && dtype === 'U8') {
      linears.push({ module, out: rows, in: columns * 2, quantized: true })
    } else if (name.endsWith('.weight_packed')) {
      const stored = quantization.method === 'compressed-tensors' ? schemeByName(quantization, module) : undefined
      const bits = stored?.bits ?? 4
      linears.push({ module, out: rows, in: (columns * 32) / bits, quantized: true })
    } else if (name.endsWith('.weight') && shape.length === 2) {
      linears.push({ module, out: rows, in: columns, quantized: dtype === 'I8' || dtype === 'F8_E4M3' })
    }
  }
  return linears
}

describe.each(readdirSync(MODELS))('%s', (model) => {
  const directory = join(MODELS, model)

  it('opens, and every linear and vector resolves', async () => {
    const checkpoint = await openCheckpoint(directory)
    const linears = storedLinears(checkpoint)
    expect(linears.length).toBeGreaterThan(10)
    for (const { module, out, in: inFeatures, quantized } of linears) {
      const spec = checkpoint.linear(module, out, inFeatures, 'optional')
      expect(spec.kind).toBe(quantized ? 'quantized' : 'matrix')
      expect([spec.out, spec.in]).toEqual([out, inFeatures])
      expect(spec.bias?.shape ?? [out]).toEqual([out])
    }
    const vectors = [...checkpoint.tensors.values()].filter(({ name }) => /norm\.weight$|ln_.\.weight$/.test(name))
    expect(vectors.length).toBeGreaterThan(4)
    for (const { name, shape } of vectors) expect(checkpoint.vector(name, shape).length).toBe(shape[0])
  })

  it('lists every byte of its files once', async () => {
    const checkpoint = await openCheckpoint(directory)
    const headers = checkpoint.files.map((file) => 8 + Number(readFileSync(file).readBigUInt64LE(0)))
    const tensorBytes = listTensors(checkpoint).reduce((sum, { bytes }) => sum + bytes, 0)
    expect(tensorBytes + headers.reduce((sum, bytes) => sum + bytes, 0)).toBe(checkpoint.bytes)
  })

  it('has as many quantized linears as the reference dequantized', async () => {
    const checkpoint = await openCheckpoint(directory)
    const golden = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8')) as { dequant_checksum?: object }
    const quantized = storedLinears(checkpoint)
      .filter(({ quantized }) => quantized)
      .map(({ module }) => module)
    expect(quantized.sort()).toEqual(Object.keys(golden.dequant_checksum ?? {}).sort())
  })
})

it.each([
  ['llama-bf16', 'BF16'],
  ['qwen2-tied-fp16', 'F16'],
  ['qwen1-gptq-int8', 'GPTQ int8, group 128, symmetric; rest F16'],
  ['qwen2-gptq-int4-channelwise', 'GPTQ int4, channelwise, symmetric; rest F16'],
  ['qwen2-gptq-int4-g32-desc_act', 'GPTQ int4, group 32, symmetric, act-order; rest F16'],
  ['qwen2-gptq-v2-int4', 'GPTQ v2 int4, group 64, asymmetric; rest F16'],
  ['qwen3-awq-int4-g64', 'AWQ GEMM int4, group 64, asymmetric; rest F16'],
  ['qwen2-ct-w4a16', 'compressed-tensors pack-quantized int4, group 128, symmetric; rest BF16'],
  ['qwen2-ct-w8a16', 'compressed-tensors pack-quantized int8, channelwise, symmetric; rest F16'],
  ['qwen3-fp8-block', 'FP8 e4m3, blocks of 128 x 128; rest BF16, F32'],
  ['qwen3-moe-fp8', 'FP8 e4m3, blocks of 128 x 128; rest BF16'],
  ['qwen3-ct-fp8-channel', 'compressed-tensors float-quantized FP8 e4m3, channelwise; rest BF16'],
  ['qwen2-ct-fp8-tensor', 'compressed-tensors float-quantized FP8 e4m3, one scale a tensor; rest BF16'],
  [
    'qwen2-ct-mixed',
    'compressed-tensors pack-quantized and float-quantized int8, channelwise, symmetric; int4, group 32, symmetric; ' +
      'FP8 e4m3, channelwise; rest BF16',
  ],
  ['qwen3-ct-nvfp4', 'compressed-tensors nvfp4-pack-quantized NVFP4, group 16; rest BF16, F32'],
  ['qwen2-ct-int8', 'compressed-tensors int-quantized int8, channelwise, symmetric; rest BF16'],
])('describes %s', async (model, description) => {
  expect(describeFormat(await openCheckpoint(join(MODELS, model)))).toBe(description)
})
