import { describe, expect, test } from 'vitest'
import { loadModel, type PlanOptions, planModel } from '../../../src'
import { runSync } from '../../../src/common/event-loop'
import { createModel } from '../../../src/models/registry'
import { type Machine, resolveDevices } from '../../../src/placement/available-devices'
import { planDevices } from '../../../src/placement/plan-devices'
import { configWeights, plan } from '../../../src/placement/plan-model'
import { presets } from '../../../src/placement/presets'
import { modelDirectory } from '../../support/fixtures'

const GiB = 2 ** 30
const gpus = [
  { device: 'cuda:0', freeBytes: 1000, hasContext: false },
  { device: 'cuda:1', freeBytes: 500, hasContext: true },
]
const machine = (devices = gpus, hostBytes = 24 * GiB): Machine => ({
  gpus: async () => ({ devices, reason: devices.length > 0 ? null : 'There is no driver.' }),
  hostBytes: () => hostBytes,
})
/** One that must not be asked. */
const secret: Machine = {
  gpus: () => Promise.reject(new Error('asked for GPUs')),
  hostBytes: () => {
    throw new Error('asked for memory')
  },
}

describe('devices of this machine', () => {
  const complete = async (options: PlanOptions, at = machine()) =>
    planDevices(await resolveDevices(options, at)).candidates.map(({ device, memory }) => [device, memory])

  test('all GPUs with their free memory, if none is named', async () => {
    const all = [
      ['cuda:0', 1000],
      ['cuda:1', 500],
    ]
    expect(await complete({})).toEqual(all)
    expect(await complete({ maxMemory: {} })).toEqual(all)
    expect(await complete({ deviceMap: 'balanced' })).toEqual(all)
    expect((await resolveDevices({}, machine())).deviceMap).toBe('auto')
  })

  test('CUDA takes less if free memory was measured with a context', async () => {
    const overheads = async (options: PlanOptions) =>
      planDevices(await resolveDevices(options, machine())).candidates.map(({ overhead }) => overhead)
    const [usual, later] = [512 * 2 ** 20, 256 * 2 ** 20]
    expect(await overheads({})).toEqual([usual, later])
    expect(await overheads({ devices: [{ device: 0, memory: '1GiB' }, 1, 'cpu'] })).toEqual([usual, later, 0])
    expect(await overheads({ deviceOverhead: '1MiB' })).toEqual([2 ** 20, 2 ** 20])
  })

  test('the CPU if there is no GPU, with an explanation', async () => {
    expect(await complete({}, machine([]))).toEqual([['cpu', 24 * GiB]])
    const { choice } = await resolveDevices({}, machine([]))
    expect(choice).toBe('No GPU was found, so this plan is for the CPU. There is no driver.')
    expect((await resolveDevices({}, machine())).choice).toBeUndefined()
    expect((await resolveDevices({ devices: ['cpu'] }, machine([]))).choice).toBeUndefined()
  })

  test('named devices are used, with the given budgets', async () => {
    expect(await complete({ devices: [1, 'cpu'] })).toEqual([
      ['cuda:1', 500],
      ['cpu', 24 * GiB],
    ])
    expect(await complete({ maxMemory: { 1: 400, cpu: 9 } }, secret)).toEqual([
      ['cuda:1', 400],
      ['cpu', 9],
    ])
    expect((await complete({ maxMemory: { cpu: 9, 'cuda:10': 8, 'cuda:2': 7 } })).map(([device]) => device)).toEqual([
      'cuda:2',
      'cuda:10',
      'cpu',
    ])
    const given = { devices: [{ device: 'cuda:0', memory: 7 }, 'cuda:1'], maxMemory: { 'cuda:1': 8 } }
    expect(await complete(given, secret)).toEqual([
      ['cuda:0', 7],
      ['cuda:1', 8],
    ])
    await expect(complete({ devices: [] })).rejects.toThrow(/devices is empty/)
  })

  test('GPUs of other machines have no limit', async () => {
    expect(await complete({ devices: ['cuda:0', 'cuda:7'] })).toEqual([
      ['cuda:0', 1000],
      ['cuda:7', Number.POSITIVE_INFINITY],
    ])
  })

  test('CPU devices without a budget share the rest of the memory', async () => {
    expect(await complete({ devices: ['cpu:0', 'cpu:1'] })).toEqual([
      ['cpu:0', 12 * GiB],
      ['cpu:1', 12 * GiB],
    ])
    expect(await complete({ devices: ['cpu:0', { device: 'cpu:1', memory: '20GiB' }] })).toEqual([
      ['cpu:0', 4 * GiB],
      ['cpu:1', 20 * GiB],
    ])
    expect(await complete({ devices: ['cpu:0', { device: 'cpu:1', memory: '50GiB' }] })).toEqual([
      ['cpu:0', 0],
      ['cpu:1', 50 * GiB],
    ])
  })
})

describe('a plan on a machine of 24 GiB', () => {
  const config = presets['Qwen2-72B-Instruct'] ?? {}
  const source = configWeights(config)
  const planned = async (options: PlanOptions, hostBytes = 24 * GiB) =>
    runSync(plan(createModel(config, source), source, await resolveDevices(options, machine([], hostBytes))))

  test('does not fit a model that is too large, and says how much memory there is', async () => {
    for (const options of [{}, { deviceMap: 'cpu' }, { devices: ['cpu:0', 'cpu:1'] }, { deviceMap: { '': 'cpu:3' } }]) {
      const { fits, explanation } = await planned(options)
      expect(fits).toBe(false)
      expect(explanation.join(' ')).toMatch(/the memory that this process may still allocate, 24\.00 GiB; override/)
      expect(explanation.join(' ')).toMatch(/lacks [\d,]+ bytes/)
      expect(explanation.join(' ')).not.toMatch(/one more device of/)
    }
    expect((await planned({})).explanation[0]).toBe(
      'No GPU was found, so this plan is for the CPU. There is no driver.',
    )
  })

  test('fits the budget that its user gives', async () => {
    for (const options of [
      { deviceMap: 'cpu', maxMemory: { cpu: '200GiB' } },
      { devices: [{ device: 'cpu', memory: Number.POSITIVE_INFINITY }] },
    ]) {
      const { fits, explanation } = await planned(options)
      expect(fits).toBe(true)
      expect(explanation.join(' ')).not.toContain('may still allocate')
    }
  })

  test('counts all CPU devices together, to the byte, however uneven', async () => {
    const deviceMap = { '': 'cpu:0', lm_head: 'cpu:1' }
    const whole = await planned({ deviceMap }, 1000 * GiB)
    const bytes = whole.stages.reduce((sum, { total }) => sum + total, 0)
    const exact = await planned({ deviceMap }, bytes)
    expect(exact.fits).toBe(true)
    expect(exact.stages.map(({ budget }) => budget)).toEqual(exact.stages.map(({ total }) => total))
    const short = await planned({ deviceMap }, bytes - 1)
    expect(short.fits).toBe(false)
    expect((await planned({ devices: ['cpu:0', 'cpu:1'] }, 160 * GiB)).fits).toBe(true)
  })

  test('counts what the disk device keeps in memory', async () => {
    const { fits, stages } = await planned({ deviceMap: 'disk' })
    expect(fits).toBe(true)
    const [{ kvCache, buffers } = { kvCache: 0, buffers: 0 }] = stages
    expect((await planned({ deviceMap: 'disk' }, kvCache + buffers)).fits).toBe(true)
    expect((await planned({ deviceMap: 'disk' }, kvCache + buffers - 1)).fits).toBe(false)
    const both = { deviceMap: { '': 'disk', lm_head: 'cpu' } }
    expect((await planned(both, kvCache + buffers)).fits).toBe(false)
  })

  test('of named devices with budgets does not query the machine', async () => {
    const options = { devices: [0, 1].map((device) => ({ device, memory: '80GiB' })) }
    expect(runSync(plan(createModel(config, source), source, await resolveDevices(options, secret))).fits).toBe(true)
  })
})

test('planModel() and loadModel() query this machine', async () => {
  const { fits, explanation } = await planModel('Qwen2-72B-Instruct', { deviceMap: 'cpu', maxSequences: 128 })
  expect(fits).toBe(false)
  expect(explanation.join(' ')).toContain('the memory that this process may still allocate')
  const options = { deviceMap: 'cpu', maxSequences: 2 ** 20, maxModelLength: 256 }
  await expect(loadModel(modelDirectory('qwen2-bf16'), options)).rejects.toMatchObject({
    code: 'OUT_OF_MEMORY',
    message: expect.stringMatching(
      /cpu lacks [\d,]+ bytes .* override it with maxMemory|override it with maxMemory.*cpu lacks/,
    ),
  })
})

test('auto without devices loads on the devices of the machine', async () => {
  for (const deviceMap of ['auto', undefined]) {
    await using model = await loadModel(modelDirectory('qwen2-bf16'), { deviceMap, maxModelLength: 32 })
    expect(new Set(Object.values(model.deviceMap)).size).toBe(1)
  }
})

test('devices or budgets without a device map mean auto', async () => {
  const sizes = { maxModelLength: 32, maxSequences: 1 }
  const used = async (options: PlanOptions) => {
    await using model = await loadModel(modelDirectory('qwen2-bf16'), { ...sizes, ...options })
    return new Set(Object.values(model.deviceMap))
  }
  expect(await used({ maxMemory: { 'cpu:1': '1GiB' } })).toEqual(new Set(['cpu:1']))
  expect(await used({ devices: ['cpu:2', 'cpu:3'] })).toEqual(new Set(['cpu:2', 'cpu:3']))
})

describe('planDevices', () => {
  const speeds = (...devices: NonNullable<Parameters<typeof planDevices>[0]['devices']>) =>
    planDevices({ devices }).candidates.map(({ speed }) => speed)

  test('a CPU is slow beside GPUs only, unless its speed is given', () => {
    expect(speeds('cuda:0', 'cpu')).toEqual([1, 1 / 20])
    expect(speeds('cpu:0', 'cpu:1')).toEqual([1, 1])
    expect(speeds('cuda:0', { device: 'cpu', speed: 0.5 })).toEqual([1, 0.5])
  })

  test.each([
    [{ devices: ['cpu', 'cpu'] }, /devices names cpu twice/],
    [{ devices: ['cuda:1', 1] }, /devices names cuda:1 twice/],
    [{ maxMemory: { 0: 5, 'cuda:0': 6 } }, /maxMemory names cuda:0 twice/],
    [{ devices: [{ device: 'cpu', memory: 'much' }] }, /memory of cpu: "much" is not a memory size/],
    [{ devices: [null as unknown as string] }, /null is not a device/],
  ])('%j is refused', (options, message) => {
    expect(() => planDevices(options)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  test('budgets also for devices that are no candidates, for maps that name them', () => {
    const { candidates, budgets } = planDevices({ devices: ['cpu:0'], maxMemory: { 'cpu:1': '1KiB' } })
    expect(candidates.map(({ device }) => device)).toEqual(['cpu:0'])
    expect(budgets.get('cpu:1')).toBe(1024)
  })
})

describe('budgets and devices without effect', () => {
  test.each<[PlanOptions, string]>([
    [
      { devices: ['cpu:0', 'cpu:1'], maxMemory: { cpu: '1GiB' } },
      'a budget for cpu, but modules are placed on cpu:0, cpu:1',
    ],
    [{ deviceMap: { '': 'cpu:1' }, maxMemory: { cpu: '1GiB' } }, 'a budget for cpu, but modules are placed on cpu:1'],
    [{ deviceMap: 'cpu', maxMemory: { 'cpu:0': '1GiB' } }, 'a budget for cpu:0, but modules are placed on cpu. Give'],
    [{ deviceMap: 'cpu', devices: ['cpu:1'] }, 'deviceMap names cpu, but devices lists cpu:1.'],
    [
      { deviceMap: { '': 0 }, devices: [{ device: 1, memory: '1GiB' }] },
      'deviceMap names cuda:0, but devices lists cuda:1.',
    ],
  ])('%j are refused', async (options, message) => {
    await expect(planModel('Qwen3-8B', options)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(message),
    })
  })

  test('but not those of devices that no module needs', async () => {
    for (const options of [
      { deviceMap: 0, maxMemory: { 0: '40GiB', 1: '40GiB', cpu: '64GiB' } },
      { devices: ['cpu:0'], maxMemory: { 'cpu:0': '40GiB', 'cpu:1': '1GiB' } },
      { deviceMap: 'cpu', devices: ['cpu', 0], maxMemory: { cpu: '40GiB', 0: '40GiB' } },
    ])
      expect((await planModel('Qwen3-8B', options)).fits).toBe(true)
  })

  test('a device has one name, however it is written', async () => {
    const names = ['cpu:01', 'cuda:00', '007', 'disk']
    const { candidates } = planDevices({ devices: names })
    expect(candidates.map(({ device }) => device)).toEqual(['cpu:1', 'cuda:0', 'cuda:7', 'disk'])
    expect(() => planDevices({ devices: ['cpu:1', 'cpu:01'] })).toThrow('devices names cpu:1 twice')
    for (const device of [1e300, 10_000, 'cuda:10000', '99999999999999999999999'])
      expect(() => planDevices({ devices: [device] })).toThrow('is not a device')
  })
})
