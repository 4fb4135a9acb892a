import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { attentionReport } from '../../../src/benchmark/attention'
import { gemmReport } from '../../../src/benchmark/gemm'
import { lengthOf } from '../../../src/benchmark/model'
import { medianMinMax } from '../../../src/benchmark/report'
import { attentionHeads, linearShapes } from '../../../src/benchmark/shapes'
import { EXIT_CODES } from '../../../src/cli/program'
import { rooflinePicture } from '../../../src/pictures/roofline'
import { findPreset } from '../../../src/placement/presets'
import { billfish } from '../../support/programs'

describe('shapes', () => {
  it('are the linears of a layer and the head, as the model runs them', () => {
    expect(linearShapes('qwen2-72b')).toEqual([
      { name: 'qwen2-72b qkv', outs: [8192, 1024, 1024], in: 8192 },
      { name: 'qwen2-72b o', outs: [8192], in: 8192 },
      { name: 'qwen2-72b gate_up', outs: [29568, 29568], in: 8192 },
      { name: 'qwen2-72b down', outs: [8192], in: 29568 },
      { name: 'qwen2-72b lm_head', outs: [152064], in: 8192 },
    ])
    // The quantized release is wider; Qwen v1 has its q, k and v in one weight.
    expect(linearShapes('Qwen2-72B-Instruct-GPTQ-Int4')[2]?.outs).toEqual([29696, 29696])
    expect(linearShapes('qwen-72b').map(({ name }) => name.split(' ')[1])).toEqual([
      'c_attn',
      'attn.c_proj',
      'w2_w1',
      'mlp.c_proj',
      'lm_head',
    ])
    expect(linearShapes('8192x4096, 1024+256+256x1024')).toEqual([
      { name: '8192x4096', outs: [8192], in: 4096 },
      { name: '1024+256+256x1024', outs: [1024, 256, 256], in: 1024 },
    ])
  })

  it('are refused by name if they are invalid', () => {
    expect(() => linearShapes('8192x8192,qwen9-1b')).toThrow(/'qwen9-1b' is neither a model, nor .* qwen2-72b-int4/)
    expect(() => linearShapes('0x8')).toThrow(/0x8: numbers must be from 1/)
    expect(() => attentionHeads('7/2x64')).toThrow(/multiple of the KV heads/)
    expect(() => attentionHeads('8x64')).toThrow(/'8x64' is neither/)
  })

  it('are the heads of a model', () => {
    expect(attentionHeads('qwen2-7b,64/8x128')).toEqual([
      { name: 'qwen2-7b', heads: 28, kvHeads: 4, headDim: 128, window: 0 },
      { name: '64/8x128', heads: 64, kvHeads: 8, headDim: 128, window: 0 },
    ])
  })

  it('have presets by short names, quantized or not', () => {
    expect(findPreset('qwen2-72b-int4')?.name).toBe('Qwen2-72B-Instruct-GPTQ-Int4')
    expect(findPreset('Qwen2-72B-Instruct-AWQ')?.name).toBe('Qwen2-72B-Instruct-AWQ')
    expect(findPreset('qwen3-8b-int8')).toMatchObject({
      name: 'Qwen3-8B-GPTQ-Int8',
      config: { hidden_size: 4096, quantization_config: { quant_method: 'gptq', bits: 8 } },
    })
    expect(findPreset('Qwen3-30B-A3B-Instruct-2507-FP8')).toMatchObject({
      name: 'Qwen3-30B-A3B-Instruct-2507-FP8',
      config: { max_position_embeddings: 262144, quantization_config: { quant_method: 'fp8' } },
    })
    expect(findPreset('qwen3-8b-int3')).toBeUndefined()
    expect(findPreset('qwen2-72b-int4-int4')).toBeUndefined()
  })
})

describe('reports', () => {
  const timing = { index: 0, median: 1e-5, fastest: 9e-6, slowest: 2e-5, memoryRate: 2e12 }
  const machine = { name: 'a GPU', memoryTraffic: 'copying', timesMeanSomething: true } as const

  it('of linears count bytes and multiplications', () => {
    const shapes = [{ name: 'small', outs: [600, 424], in: 1000 }]
    const result = { ...timing, weights: '4' as const, rows: 2, weightBytes: 5e6, movedBytes: 1e7, vendorSeconds: 3e-5 }
    const slower = { ...result, memoryRate: 1e12, vendorSeconds: 0 }
    const options = { device: 'cuda:0', shapes, groupSize: 128, zeroPoints: false }
    const report = gemmReport(options, { ...machine, vendor: 'cuBLAS', vendorFlops: 7e14 }, [slower, result, result])
    expect(report).toMatchObject({ memoryGigabytesPerSecond: 2000, vendor: 'cuBLAS', vendorTeraflops: 700 })
    const [without, point] = report.results
    expect(point?.microseconds).toBeCloseTo(10)
    expect(point?.gigabytesPerSecond).toBeCloseTo(1000)
    expect(point?.ofMemory).toBeCloseTo(0.5)
    expect(point?.teraflops).toBeCloseTo((2 * 2 * 1000 * 1024) / 1e-5 / 1e12)
    expect(point?.flopsPerByte).toBeCloseTo((2 * 2 * 1000 * 1024) / 1e7)
    expect(point?.timesVendor).toBeCloseTo(3)
    expect(without).toMatchObject({ vendorMicroseconds: null, timesVendor: null })
    expect(without?.ofMemory).toBeCloseTo(0.5) // of the median that was seen
    const none = gemmReport(options, { ...machine, vendor: '', vendorFlops: 0 }, [slower])
    expect(none).toMatchObject({ vendor: null, vendorTeraflops: null })
    const grouped = { experts: 8, perToken: 2 }
    const [ofExperts] = gemmReport({ ...options, grouped }, { ...machine, vendor: '', vendorFlops: 0 }, [
      slower,
    ]).results
    expect(ofExperts?.teraflops).toBeCloseTo((2 * 2 * 2 * 1000 * 1024) / 1e-5 / 1e12)
  })

  it('of attention count keys and values', () => {
    const c = { name: 'one', heads: 8, kvHeads: 2, headDim: 64, window: 0, sequences: 1, past: 99, rows: 1 }
    const result = { ...timing, cacheBytes: 2e6, multiplications: 5e6 }
    const [point] = attentionReport('cuda:0', [c], machine, [result]).results
    expect(point).toMatchObject({ name: 'one', past: 99 })
    expect(point?.gigabytesPerSecond).toBeCloseTo(200)
    expect(point?.ofMemory).toBeCloseTo(0.1)
    expect(point?.teraflops).toBeCloseTo(1)
    expect(point?.flopsPerByte).toBeCloseTo(5)
  })

  it('have medians, and contexts with room for the tokens generated while measuring', () => {
    expect(medianMinMax([3, 1, 2])).toEqual([2, 1, 3])
    expect(medianMinMax([4, 1, 2, 3])).toEqual([2.5, 1, 4])
    expect(lengthOf({ batchSize: 1, context: 512 }, 64, 512)).toBe(512 + 64 + 4 + 1)
    expect(lengthOf({ batchSize: 3, context: 40 }, 4, 512)).toBe(40 + 32)
  })
})

describe('the roofline picture', () => {
  it('is XML with a mark for every point, its roofs where memory and rate meet', () => {
    const svg = rooflinePicture({
      title: 'Linears on <a GPU>',
      subtitle: 'medians',
      gigabytesPerSecond: 1000,
      memoryLabel: 'copying',
      teraflops: 100,
      rateLabel: 'cuBLAS',
      colors: ['4 bits', '16 bits'],
      marks: ['one', 'two'],
      series: [0, 1].map((color) => ({
        color,
        mark: color,
        points: [1, 10, 100].map((flopsPerByte) => ({ flopsPerByte, teraflops: flopsPerByte / 2, label: 'a point' })),
      })),
    })
    expect(svg.match(/<title>a point<\/title>/g)).toHaveLength(6)
    expect(svg).toContain('Linears on &lt;a GPU&gt;')
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
  })
})

describe('billfish bench gemm', () => {
  it('measures on the CPU, as a table, as JSON and as a picture', async () => {
    const picture = join(mkdtempSync(join(tmpdir(), 'billfish-')), 'gemm.svg')
    const line = ['bench', 'gemm', '--device', 'cpu', '--shapes', '256+64x512', '--rows', '3', '--bits', '4']
    const { code, stdout, stderr } = await billfish([...line, '--svg', picture])
    expect({ code, stderr }).toEqual({ code: EXIT_CODES.ok, stderr: '' })
    expect(stdout).toMatch(
      /^cpu: \d+ threads?, \w+; reading moves [\d.]+ GB\/s\n\nShape .*\n256\+64x512 +4 +3 +[\d.]+ /,
    )
    expect(readFileSync(picture, 'utf8')).toMatch(/^<svg .*<title>256\+64x512, 4 bits, 3 rows: /)
    const report = JSON.parse((await billfish([...line, '--json'])).stdout)
    expect(report).toMatchObject({ device: 'cpu', timesMeanSomething: true, groupSize: 128, vendor: null })
    expect(report.results).toMatchObject([{ name: '256+64x512', outs: [256, 64], in: 512, bits: 4, rows: 3 }])
    expect(report.results[0].ofMemory).toBeGreaterThan(0)
  })

  it('runs on emulated devices, and says that their times are meaningless', async () => {
    const line = ['bench', 'gemm', '--device', 'emulated:0', '--shapes', '128x128', '--rows', '1,9', '--zeros']
    const { code, stdout } = await billfish(line)
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/^emulated:0: emulated Hopper; copying .*\n.*times mean nothing\.\n/)
    expect(stdout.match(/^128x128 +(4|16) +(1|9) /gm)).toHaveLength(4)
  })

  it.each(['cpu', 'emulated:0'])('measures floats and experts on %s', async (device) => {
    const line = ['bench', 'gemm', '--device', device, '--shapes', '64+64x128', '--rows', '2', '--json']
    const { stdout } = await billfish([...line, '--bits', 'fp8,nvfp4,mxfp4', '--grouped', '8,2'])
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({ grouped: { experts: 8, perToken: 2 }, vendor: null })
    expect(report.results).toMatchObject([
      { weights: 'fp8', bits: 8 },
      { weights: 'nvfp4', bits: 4 },
      { weights: 'mxfp4', bits: 4 },
    ])
  })

  it.each([
    ['--shapes nonsense', /'nonsense' is neither a model/],
    ['--bits 5', /4, 8 or 16 bits, or are fp8, nvfp4 or mxfp4, not 5/],
    ['--grouped 8', /128,8, not 8/],
    ['--grouped 8,9', /128,8, not 8,9/],
    ['--grouped 5000,1', /at most 4096/],
    ['--rows 1,0', /'0' is no whole number from 1 on/],
    ['--device gpu', /"gpu" is not a device/],
    ['--dtype int4', /dtype is "int4"/],
    ['--device emulated:0 --shapes 64x128 --group 40', /groups of 40 inputs; GPUs take multiples of 32/],
    ['--device emulated:0 --dtype float32', /computes in 16 bits/],
    ['--device cuda:77', /no device cuda:77/],
  ])('refuses "%s"', async (options, message) => {
    const { code, stdout, stderr } = await billfish(['bench', 'gemm', ...options.split(' ')])
    expect(code).not.toBe(EXIT_CODES.ok)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
  })
})

describe('billfish bench attention', () => {
  it('measures decoding and prompts on emulated devices', async () => {
    const line = ['bench', 'attention', '--device', 'emulated:0', '--shapes', '4/2x64', '--contexts', '40', '--json']
    const report = JSON.parse((await billfish([...line, '--sequences', '1,2', '--prompt-rows', '9'])).stdout)
    expect(report).toMatchObject({ device: 'emulated:0', timesMeanSomething: false, memoryTraffic: 'copying' })
    expect(report.results.map(({ sequences, past, rows }: Record<string, number>) => [sequences, past, rows])).toEqual([
      [1, 40, 1],
      [2, 40, 1],
      [1, 0, 9],
      [1, 40, 9],
    ])
  })

  it('measures on the CPU', async () => {
    const line = ['bench', 'attention', '--device', 'cpu', '--shapes', '8/2x64', '--contexts', '100']
    const { stdout } = await billfish([...line, '--sequences', '2', '--prompt-rows', '0'])
    expect(stdout).toMatch(/^cpu: .*\n\nShape .*\n8\/2x64 +decode +2 +100 +1 +[\d.]+ /)
  })
})
