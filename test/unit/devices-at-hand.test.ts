import { describe, expect, test } from 'vitest'
import { loadModel } from '../../src/index'
import { withDevicesAtHand } from '../../src/placement/devices-at-hand'
import { planDevices } from '../../src/placement/plan-devices'
import { modelDirectory } from '../support/fixtures'

const gpus = [
  { device: 'cuda:0', freeBytes: 1000, hasContext: false },
  { device: 'cuda:1', freeBytes: 500, hasContext: true },
]

describe('devices of this machine', () => {
  const complete = (options: Parameters<typeof planDevices>[0], atHand = gpus) =>
    planDevices(withDevicesAtHand(options, atHand)).candidates.map(({ device, memory }) => [device, memory])

  test('all GPUs within what is free, where none is named', () => {
    expect(complete({})).toEqual([
      ['cuda:0', 1000],
      ['cuda:1', 500],
    ])
    expect(complete({ maxMemory: {} })).toEqual(complete({}))
  })

  test('what CUDA takes is less where free memory was asked for with the context there', () => {
    const overheads = (options: Parameters<typeof planDevices>[0]) =>
      planDevices(withDevicesAtHand(options, gpus)).candidates.map(({ overhead }) => overhead)
    const [usual, later] = [512 * 2 ** 20, 256 * 2 ** 20]
    expect(overheads({})).toEqual([usual, later])
    expect(overheads({ devices: [{ device: 0, memory: '1GiB' }, 1, 'cpu'] })).toEqual([usual, later, 0])
    expect(overheads({ deviceOverhead: '1MiB' })).toEqual([2 ** 20, 2 ** 20])
  })

  test('the CPU where there is no GPU', () => {
    expect(complete({}, [])).toEqual([['cpu', Number.POSITIVE_INFINITY]])
  })

  test('what is named is taken, with the budgets that are given', () => {
    expect(complete({ devices: [1, 'cpu'] })).toEqual([
      ['cuda:1', 500],
      ['cpu', Number.POSITIVE_INFINITY],
    ])
    expect(complete({ maxMemory: { 1: 400, cpu: 9 } })).toEqual([
      ['cuda:1', 400],
      ['cpu', 9],
    ])
    expect(complete({ maxMemory: { cpu: 9, 'cuda:10': 8, 'cuda:2': 7 } }).map(([device]) => device)).toEqual([
      'cuda:2',
      'cuda:10',
      'cpu',
    ])
    expect(complete({ devices: [{ device: 'cuda:0', memory: 7 }, 'cuda:1'], maxMemory: { 'cuda:1': 8 } })).toEqual([
      ['cuda:0', 7],
      ['cuda:1', 8],
    ])
    expect(() => complete({ devices: [] })).toThrow(/devices is empty/)
  })
})

test('auto without devices loads on what there is', async () => {
  await using model = await loadModel(modelDirectory('qwen2-bf16'), { deviceMap: 'auto', maxModelLength: 32 })
  expect(new Set(Object.values(model.deviceMap)).size).toBe(1)
})

test('without a device map all is on the CPU, also where other devices have budgets', async () => {
  const sizes = { maxModelLength: 32, maxSequences: 1 }
  await using model = await loadModel(modelDirectory('qwen2-bf16'), { ...sizes, maxMemory: { 'cpu:1': '1GiB' } })
  expect(new Set(Object.values(model.deviceMap))).toEqual(new Set(['cpu']))
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
    [{ devices: [{ device: 'cpu', speed: 0 }] }, /speed of cpu is 0/],
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
