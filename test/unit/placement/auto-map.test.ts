import { describe, expect, test } from 'vitest'
import { type ModelPlan, type PlanOptions, planModel } from '../../../src/index'

const GiB = 2 ** 30
const sizes = { maxModelLength: 2048, maxSequences: 2 }

const cases: [string, string, NonNullable<PlanOptions['devices']>][] = [
  ['much room', 'Qwen3-8B', [80, 80, 80].map((memory, i) => ({ device: i, memory: memory * GiB }))],
  ['a small device first', 'Qwen2.5-7B-Instruct', [4, 80].map((memory, i) => ({ device: i, memory: memory * GiB }))],
  ['a small device last', 'Qwen2.5-7B-Instruct', [80, 3].map((memory, i) => ({ device: i, memory: memory * GiB }))],
  ['hardly enough', 'Qwen2.5-7B-Instruct', [5.7, 5.7, 6].map((memory, i) => ({ device: i, memory: memory * GiB }))],
  ['different speeds', 'Qwen3-8B', [1, 3, 2].map((speed, i) => ({ device: i, memory: 24 * GiB, speed }))],
  ['GPUs and a CPU', 'Qwen2.5-7B-Instruct', [{ device: 0, memory: 5 * GiB }, { device: 1, memory: 5 * GiB }, 'cpu']],
]

/** Module names of a plan and, for each device, how many of them it has. */
function counts({ deviceMap, stages }: ModelPlan) {
  return {
    modules: Object.keys(deviceMap),
    stages: stages.map(({ device, modules }) => ({ device, count: modules.length })),
  }
}

function mapOf(modules: string[], stages: { device: string; count: number }[]): Record<string, string> {
  const devices = stages.flatMap(({ device, count }) => Array.from({ length: count }, () => device))
  return Object.fromEntries(modules.map((module, i) => [module, devices[i] as string]))
}

describe.each(cases)('%s', (_what, model, devices) => {
  const speedOf = (name: string, plan: ModelPlan) => {
    const option = devices.find((entry) => typeof entry === 'object' && `cuda:${entry.device}` === name)
    const usual = name === 'cpu' && plan.stages.some(({ device }) => device !== 'cpu') ? 1 / 20 : 1
    return (typeof option === 'object' ? option.speed : undefined) ?? usual
  }
  const slowest = (plan: ModelPlan) => Math.max(...plan.stages.map(({ read, device }) => read / speedOf(device, plan)))

  test('no boundary can be moved by a module to make the slowest stage faster', async () => {
    const best = await planModel(model, { ...sizes, devices })
    expect(best.fits).toBe(true)
    const { modules, stages } = counts(best)
    expect(stages.length).toBeGreaterThan(1)
    for (let i = 0; i + 1 < stages.length; i++) {
      for (const by of [-1, 1]) {
        const moved = stages.map((stage, at) => ({
          ...stage,
          count: stage.count + (at === i ? by : at === i + 1 ? -by : 0),
        }))
        const neighbor = await planModel(model, { ...sizes, devices, deviceMap: mapOf(modules, moved) })
        if (neighbor.fits) expect(slowest(neighbor)).toBeGreaterThanOrEqual(slowest(best))
      }
    }
  })
})

test('what is counted for a split is what its stages hold, to the byte', async () => {
  // Budgets that both stages fill to the last byte: with one less, neither this split nor another one fits.
  const even = await planModel('Qwen2.5-7B-Instruct', { ...sizes, devices: [0, 1] })
  const devices = (short: number) =>
    even.stages.map(({ device, total }, i) => ({ device, memory: total - (i === 0 ? short : 0) }))
  expect((await planModel('Qwen2.5-7B-Instruct', { ...sizes, devices: devices(0) })).deviceMap).toEqual(even.deviceMap)
  expect((await planModel('Qwen2.5-7B-Instruct', { ...sizes, devices: devices(1) })).fits).toBe(false)
})

test('with many sequences a stage is compute-bound, and 16 bits of the head count no more than 4 of a layer', async () => {
  const layers = async (maxSequences: number) => {
    const options = { devices: ['cuda:0', 'cuda:1'], maxModelLength: 32, maxSequences, maxCacheTokens: 32 }
    const { stages, explanation } = await planModel('Qwen1.5-72B-Chat-GPTQ-Int4', options)
    return { count: (stages[1]?.modules.length ?? 0) - 2, text: explanation.join(' ') }
  }
  const [few, many] = [await layers(4), await layers(1024)]
  expect(few.text).toMatch(/which reads \d+\.\d+ GiB of weights a token/)
  expect(many.text).toMatch(/which computes \d+\.\d billion operations in a step of 512 tokens/)
  // The head's 16-bit table is worth the bytes of five layers, and the operations of one and a half.
  expect(few.count).toBe(37)
  expect(many.count).toBe(39)
})
