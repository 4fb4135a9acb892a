import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel } from '../../../src/index'
import { createModel, storedWeights } from '../../../src/models/registry'
import { modulesOf, stagesOf, traceStage } from '../../../src/models/stages'
import type { MemoryLimits } from '../../../src/native/addon'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { stageMemory } from '../../../src/placement/planner/stage-memory'
import { modelDirectory, textModels } from '../../support/fixtures'

/** What the devices are planned to hold, from headers alone. */
async function planned(directory: string, devices: readonly string[], limits: MemoryLimits) {
  const checkpoint = await openCheckpoint(directory)
  const weights = storedWeights(checkpoint)
  const model = createModel(checkpoint.config, weights)
  const modules = modulesOf(model)
  const deviceOf = (module: string) =>
    devices[Math.floor((modules.indexOf(module) * devices.length) / modules.length)] as string
  const stages = stagesOf(modules, deviceOf)
  const deviceMap = Object.fromEntries(modules.map((module) => [module, deviceOf(module)]))
  const memory = stages.map((stage) => ({
    device: stage.device,
    ...stageMemory(traceStage(model, weights, stage), limits),
  }))
  return { deviceMap, memory }
}

const demo = resolve(__dirname, '../../../examples/demo-model')
const directories = [...textModels.map((name) => [name, modelDirectory(name)] as const), ['demo', demo] as const]

const on = (kind: string, count: number) => Array.from({ length: count }, (_, i) => `${kind}:${i}`)

describe.each(directories)('%s', (_, directory) => {
  test.each<[string[], LoadOptions, MemoryLimits]>([
    [on('cpu', 1), { maxModelLength: 64, maxSequences: 1 }, limits('F16', 2, 512, 16)],
    [on('cpu', 2), { maxModelLength: 100, maxSequences: 3, maxBatchTokens: 7 }, limits('F16', 12, 7, 16)],
    [on('cpu', 3), { maxModelLength: 512, maxSequences: 20, dtype: 'float32' }, limits('F32', 320, 512, 20)],
    [on('cpu', 5), { maxModelLength: 33, maxSequences: 2, dtype: 'bfloat16' }, limits('BF16', 4, 512, 16)],
    [['cpu', 'disk'], { maxModelLength: 64, maxSequences: 2 }, limits('F16', 4, 512, 16)],
    [on('emulated', 1), { maxModelLength: 64, maxSequences: 1 }, limits('F16', 2, 512, 16)],
    [on('emulated', 2), { maxModelLength: 100, maxSequences: 3, maxBatchTokens: 7 }, limits('F16', 12, 7, 16)],
    [on('emulated', 7), { maxModelLength: 512, maxSequences: 20, dtype: 'bfloat16' }, limits('BF16', 320, 512, 20)],
    [['emulated:0', 'cpu', 'emulated:1'], { maxModelLength: 33, maxSequences: 2 }, limits('F16', 4, 512, 16)],
  ])('over %j the bytes planned are the bytes allocated', async (devices, options, memoryLimits) => {
    const { deviceMap, memory } = await planned(directory, devices, {
      ...memoryLimits,
      maxSequences: options.maxSequences as number,
    })
    await using model = await loadModel(directory, { ...options, deviceMap })
    expect(model.memory()).toMatchObject(memory)
    for (const { device, weights, kvCache, states, buffers } of model.memory()) {
      if (device.startsWith('emulated')) expect((weights + kvCache + states + buffers) % 2 ** 21).toBe(0) // pages of a GPU
    }
  })
})

function limits(
  cacheType: MemoryLimits['cacheType'],
  blockCount: number,
  maxBatchTokens: number,
  maxLogitRows: number,
): MemoryLimits {
  return {
    exact: cacheType === 'F32',
    cacheType,
    blockSize: 32,
    blockCount,
    maxSequences: 1,
    maxBatchTokens,
    maxLogitRows,
  }
}
