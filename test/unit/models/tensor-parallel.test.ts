import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { runSync } from '../../../src/common/event-loop'
import { type DeviceMemory, loadModel, planModel } from '../../../src/index'
import { channelCount, Rank, type RankChannels, scaleRuns, sliceRuns } from '../../../src/models/rank'
import { createModel } from '../../../src/models/registry'
import { modulesOf, traceRanks } from '../../../src/models/stages'
import type { PlannedStage } from '../../../src/placement/plan'
import { configWeights } from '../../../src/placement/plan-model'
import { ZEROS } from '../../../src/quantization/padding'
import { golden, greedyTokens, modelDirectory, QWEN2_72B } from '../../support/fixtures'
import { billfish } from '../../support/programs'

const ranks = (count: number) => Array.from({ length: count }, (_, index) => new Rank(index, count))
/** The channels of runs one by one; -1 for zeros. */
const channels = (runs: RankChannels) =>
  runs.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => (start === ZEROS ? ZEROS : start + i)))
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

describe('shares', () => {
  test.each([
    [29568, 128, 16, 2, 29696],
    [29568, 128, 16, 4, 29696],
    [29568, 128, 16, 8, 29696],
    [13696, 128, 16, 2, 13824],
    [640, 128, 16, 2, 768],
    [384, 128, 16, 3, 384],
    [152064, 1, 16, 8, 152064],
    [151936, 1, 16, 7, 151984],
  ])('%i channels in groups of %i, tiles of %i, on %i ranks are padded to %i', (size, group, tile, count, padded) => {
    const shares = ranks(count).map((rank) => rank.share(size, group, tile))
    expect(shares.map(channelCount)).toEqual(shares.map(() => padded / count))
    expect(shares.flatMap(channels)).toEqual([...numbers(size), ...Array(padded - size).fill(ZEROS)])
  })

  test.each([
    [64, 8, 2],
    [64, 8, 8],
    [64, 8, 16],
    [28, 4, 3],
    [28, 4, 8],
    [40, 8, 5],
    [14, 2, 3],
    [6, 6, 4],
    [7, 1, 2],
    [5, 5, 7],
  ])('%i query heads that share %i key-value heads on %i ranks', (heads, kvHeads, count) => {
    const shares = ranks(count).map((rank) => rank.heads(heads, kvHeads))
    // Every query head is on one rank, beside its key-value head, and as many of them share one as in the model.
    const queries = shares.flatMap((share) => channels(share.queries))
    expect(queries.filter((head) => head !== ZEROS).sort((a, b) => a - b)).toEqual(numbers(heads))
    for (const share of shares) {
      const [own, keys] = [channels(share.queries), channels(share.keys)]
      expect(own.length % keys.length).toBe(0)
      for (const [i, head] of own.entries()) {
        if (head === ZEROS) continue
        expect(keys[Math.floor((i * keys.length) / own.length)]).toBe(Math.floor((head * kvHeads) / heads))
      }
    }
  })

  test('cuts and widths of runs', () => {
    const runs = [
      { start: 3, count: 2 },
      { start: ZEROS, count: 2 },
      { start: 0, count: 1 },
    ]
    expect(channels(sliceRuns(runs, 1, 3))).toEqual([4, ZEROS, ZEROS])
    expect(channels(scaleRuns(runs, 2))).toEqual([6, 7, 8, 9, ZEROS, ZEROS, ZEROS, ZEROS, 0, 1])
  })
})

describe('plans', () => {
  const qwen2 = {
    ...QWEN2_72B,
    quantization_config: { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true, version: 'gemm' },
  }
  const devices = (count: number) => Array.from({ length: count }, (_, i) => ({ device: i, memory: '80GiB' }))

  test.each([2, 4, 8])('Qwen2-72B-Instruct-AWQ with 29568 channels on %i ranks', async (tensorParallelSize) => {
    const sizes = { maxModelLength: 8192, maxSequences: 4 }
    const plan = await planModel(qwen2, { ...sizes, devices: devices(tensorParallelSize), tensorParallelSize })
    expect(plan.fits).toBe(true)
    expect(plan.stages.map(({ device, rank, ranks }) => [device, rank, ranks])).toEqual(
      numbers(tensorParallelSize).map((rank) => [`cuda:${rank}`, rank, tensorParallelSize]),
    )
    const whole = await planModel(qwen2, { ...sizes, deviceMap: 0 })
    const all = (part: 'weights' | 'kvCache') => plan.stages.reduce((sum, stage) => sum + stage[part], 0)
    const alone = whole.stages[0]
    expect(all('kvCache')).toBe(alone?.kvCache)
    // Padding is 128 of 29568 channels; norms are on every rank.
    expect(all('weights') / (alone?.weights ?? 0)).toBeGreaterThan(1)
    expect(all('weights') / (alone?.weights ?? 0)).toBeLessThan(1.006)
    expect(plan.explanation.join(' ')).toContain('29568 to 29696 (gate_proj, up_proj, down_proj)')
  })

  test.each([
    ['llama', 'gptq', false],
    ['llama', 'gptq', true],
    ['qwen', 'awq', false],
    ['qwen3', 'awq', false],
  ])(
    '%s in %s (act-order %s) sums over ranks once after attention and once after the MLP',
    (type, method, actOrder) => {
      const config = {
        model_type: type,
        hidden_size: 256,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        head_dim: 64,
        kv_channels: 64,
        intermediate_size: 512,
        vocab_size: 192,
        quantization_config: { quant_method: method, bits: 4, group_size: 64, sym: true, desc_act: actOrder },
      }
      const source = configWeights(config)
      const model = createModel(config, source)
      for (const { program } of runSync(traceRanks(model, source, { device: 'cpu', modules: modulesOf(model) }, 2))) {
        const meetings = program.operators.map(({ op }) => op).filter((op) => op === 'allReduce' || op === 'allGather')
        // With act-order an output projection gathers its inputs, and then its outputs, instead.
        const attention = actOrder ? ['allGather', 'allGather'] : ['allReduce']
        const layer = [...attention, 'allReduce']
        expect(meetings).toEqual(['allReduce', ...layer, ...layer, ...layer, 'allGather']) // embedding and logits
      }
    },
  )

  test.each([2, 3, 4, 6])('act-order stores no scale on two of %i ranks', (count) => {
    const config = {
      model_type: 'llama',
      hidden_size: 384,
      num_hidden_layers: 1,
      num_attention_heads: 12,
      num_key_value_heads: 12,
      intermediate_size: 1152,
      vocab_size: 192,
      quantization_config: { quant_method: 'gptq', bits: 4, group_size: 32, sym: true, desc_act: true },
    }
    const source = configWeights(config)
    const model = createModel(config, source)
    const stage = { device: 'cpu', modules: modulesOf(model) }
    const entries = (ranks: number) => {
      const all = new Map<string, { codes: number; scales: number }>()
      for (const weight of runSync(traceRanks(model, source, stage, ranks)).flatMap(({ weights }) => weights)) {
        if (weight.kind !== 'quantized') continue
        const { codes, scales } = all.get(weight.name) ?? { codes: 0, scales: 0 }
        const groups = Math.ceil(weight.in / weight.groupSize)
        all.set(weight.name, { codes: codes + weight.out * weight.in, scales: scales + weight.out * groups })
      }
      return all
    }
    const alone = entries(1)
    expect([...alone.keys()].map((name) => name.replace(/.*\./, ''))).toEqual(
      expect.arrayContaining(['q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']),
    )
    expect(entries(count)).toEqual(alone) // all of it divides: every code and every scale is on one rank
  })

  test('too little memory: another group of devices helps', async () => {
    const plan = (count: number, device = {}) => {
      const names = Array.from({ length: count }, (_, i) => ({ device: i, memory: '16GiB', ...device }))
      return planModel(qwen2, { devices: names, tensorParallelSize: 2, maxModelLength: 8192 })
    }
    const short = await plan(2)
    expect(short.fits).toBe(false)
    expect(short.explanation.at(-2)).toMatch(/It does not fit: cuda:0 lacks .* bytes \(9.\d\d GiB\) and cuda:1 lacks/)
    expect(short.explanation.at(-1)).toBe('Each of these alone would make it fit: 2 more devices of 16.00 GiB.')
    expect((await plan(4)).fits).toBe(true)
    const onOne = await plan(1, { memory: '32GiB' })
    expect(onOne.explanation.at(-1)).toContain('one more device of 32.00 GiB.')
  })

  test('groups of devices, one after the other, for several stages', async () => {
    const plan = await planModel(qwen2, { devices: devices(4), tensorParallelSize: 2 })
    expect(new Set(Object.values(plan.deviceMap))).toEqual(new Set(['cuda:0,cuda:1', 'cuda:2,cuda:3']))
    expect(plan.sizes.tensorParallelSize).toBe(2)
  })
})

describe('loading', () => {
  test('on devices without peer access is refused without NCCL', async () => {
    process.env.BILLFISH_EMULATED_PEERS = 'off'
    try {
      const options = { tensorParallelSize: 2, deviceMap: 'emulated:0,emulated:1' }
      await expect(loadModel(modelDirectory('qwen2-bf16'), options)).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('emulated:0 does not reach the memory of emulated:1'),
      })
    } finally {
      delete process.env.BILLFISH_EMULATED_PEERS
    }
  })

  test('with a rank on the disk works as in memory', async () => {
    const { prompts, greedy } = golden('qwen2-gptq-int4-g128')
    const options = { tensorParallelSize: 2, deviceMap: 'cpu,disk', maxModelLength: 64, maxSequences: 1 }
    await using model = await loadModel(modelDirectory('qwen2-gptq-int4-g128'), options)
    expect(await greedyTokens(model, prompts.p7)).toEqual(greedy.p7)
    for (const { device, planned, weights, kvCache, states, buffers } of model.memory()) {
      expect({ weights, kvCache, states, buffers }, device).toEqual(planned)
    }
  })

  test('the demo model, whose MLP is five groups wide, answers as on one device', async () => {
    const demo = resolve(__dirname, '../../../examples/demo-model')
    const answer = async (tensorParallelSize: number) => {
      await using model = await loadModel(demo, { tensorParallelSize, maxModelLength: 256, maxSequences: 1 })
      const input = [{ role: 'user' as const, content: 'What is the capital of France?' }]
      return (await model.generate(input, { maxNewTokens: 40, temperature: 0 }).result()).text
    }
    const alone = await answer(1)
    expect(alone.length).toBeGreaterThan(0)
    expect(await answer(2)).toBe(alone)
    expect(await answer(3)).toBe(alone)
  })

  test('sums in two shots are those in one, bit for bit', async () => {
    const name = 'qwen2-gptq-int4-g128'
    const ids = golden(name).prompts.p33 as number[]
    const logits = async (twoShot: string) => {
      process.env.BILLFISH_CUDA_TWO_SHOT = twoShot
      try {
        const options = { tensorParallelSize: 3, deviceMap: 'emulated:0,emulated:1,emulated:2', maxModelLength: 64 }
        await using model = await loadModel(modelDirectory(name), { ...options, maxSequences: 1 })
        for (const { device, planned, weights, kvCache, states, buffers } of model.memory()) {
          expect({ weights, kvCache, states, buffers }, device).toEqual(planned)
        }
        return (await model.forward(ids)).logits
      } finally {
        delete process.env.BILLFISH_CUDA_TWO_SHOT
      }
    }
    expect(await logits('0')).toEqual(await logits('never'))
    await expect(logits('sometimes')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })

  test.each(['cpu', 'emulated'])('three ranks on %s give the same bits every time', async (kind) => {
    const deviceMap = numbers(3)
      .map((rank) => `${kind}:${rank}`)
      .join(',')
    const options = { tensorParallelSize: 3, deviceMap, maxModelLength: 64, maxSequences: 1 }
    const tokens = golden('qwen2-awq-int4-g128').prompts.p33 as number[]
    const all: Float32Array[] = []
    for (let load = 0; load < 2; load++) {
      await using model = await loadModel(modelDirectory('qwen2-awq-int4-g128'), options)
      for (let run = 0; run < 3; run++) all.push((await model.forward(tokens)).logits)
    }
    for (const logits of all.slice(1)) expect(logits).toEqual(all[0])
  })

  test('as planned, with budgets: as much as was planned, and too little is refused', async () => {
    const directory = modelDirectory('qwen2-gptq-int4-g128')
    const devices = ['cpu:0', 'cpu:1', 'cpu:2', 'cpu:3'].map((device) => ({ device, memory: '4MiB' }))
    const planned = await planModel(directory, { devices, tensorParallelSize: 2, maxModelLength: 64, maxSequences: 1 })
    expect(planned.fits).toBe(true)
    const plan = JSON.parse(JSON.stringify(planned)) // as it would come from another process
    await using model = await loadModel(directory, { plan })
    const parts = ({ device, weights, kvCache, buffers }: PlannedStage | DeviceMemory) => [
      device,
      weights,
      kvCache,
      buffers,
    ]
    expect(model.memory().map(parts)).toEqual(planned.stages.map(parts))
    const sizes = { tensorParallelSize: 2, maxModelLength: 64, maxSequences: 1 }
    const short = { ...sizes, deviceMap: 'cpu:0,cpu:1', maxMemory: { 'cpu:0': '4MiB', 'cpu:1': '100KiB' } }
    await expect(loadModel(directory, short)).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/It does not fit: cpu:1 lacks [\d,]+ bytes/),
    })
    await expect(loadModel(directory, { plan, tensorParallelSize: 4 })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: 'tensorParallelSize is 4, but the plan was made for 2. Plan again with it, or omit it.',
    })
  })

  test('on the command line, alone and in two stages, answers as on one device', async () => {
    const demo = resolve(__dirname, '../../../examples/demo-model')
    const answer = async (...options: string[]) => {
      const line = [
        'generate',
        demo,
        'What is 17 + 25?',
        '--chat',
        '--context',
        '128',
        '--temperature',
        '0',
        ...options,
      ]
      const { code, stdout, stderr } = await billfish(line)
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) })
      return { text: stdout, plan: stderr }
    }
    const alone = await answer()
    expect(alone.text).toContain('42')
    const two = await answer('--tensor-parallel-size', '2', '--device-map', 'cpu:0,cpu:1')
    expect(two.text).toBe(alone.text)
    const stages = '{"":"cpu:0,cpu:1","model.layers.5":"cpu:2,cpu:3","model.layers.6":"cpu:2,cpu:3"}'
    const four = await answer('--tensor-parallel-size', '2', '--device-map', stages)
    expect(four.text).toBe(alone.text)
    expect(four.plan).toMatch(/^cpu:3 +layers 5-6 /m)
  })

  test('many sequences, aborted and not, on two ranks of two stages give what each gives alone', async () => {
    const { prompts, greedy } = golden('qwen2-gptq-int4-g128')
    const [first, ...others] = ['model.embed_tokens', 'model.layers.0', '']
    const deviceMap = { [first as string]: 'cpu:0,cpu:1', [others[0] as string]: 'cpu:0,cpu:1', '': 'cpu:2,cpu:3' }
    const sizes = { maxModelLength: 64, maxSequences: 4, maxBatchTokens: 8, tensorParallelSize: 2 }
    await using model = await loadModel(modelDirectory('qwen2-gptq-int4-g128'), { ...sizes, deviceMap })
    const options = { maxNewTokens: 24, temperature: 0, ignoreEos: true }
    const runs = Array.from({ length: 12 }, async (_, i) => {
      const controller = new AbortController()
      const generation = model.generate(prompts.p33 as number[], { ...options, signal: controller.signal })
      if (i % 3 === 1) setTimeout(() => controller.abort(), i * 7)
      try {
        expect((await generation.result()).tokenIds).toEqual(greedy.p33)
      } catch (error) {
        expect(error).toMatchObject({ name: 'AbortError' })
        expect(i % 3).toBe(1)
      }
    })
    await Promise.all(runs)
    expect(model.activity().cacheTokens.inUse).toBe(0)
    expect(model.trace().stages).toEqual(['cpu:0,cpu:1', 'cpu:2,cpu:3'])
  })
})
