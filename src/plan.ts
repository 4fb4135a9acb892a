import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { suggestPath } from './checkpoint/path-suggestions'
import type { RawConfig } from './checkpoint/types'
import { emitCheckpointWarnings } from './checkpoint/warnings'
import { BillfishError } from './common/errors'
import { runCooperatively } from './common/event-loop'
import { checkpointWarnings, modelOf, weightsOf } from './models/registry'
import { textModelConfig } from './models/text-model-config'
import { openCheckpoint } from './open-checkpoint'
import { isUrl, readPath } from './options/path'
import { readOptions } from './options/read-options'
import { withOwnSignal } from './options/signal'
import { guarded, isRecord, snapshot } from './options/snapshot'
import type { PlanSource } from './placement/accelerate/stored-modules'
import { resolveDevices } from './placement/available-devices'
import { configWeights, type ModelPlan, plan } from './placement/plan-model'
import { type PlanOptions, planOptions } from './placement/plan-options'
import { findPreset, presets } from './placement/presets'
import { thisMachine } from './this-machine'

/**
 * Plans a model without loading it: the placement of its modules, and the exact bytes that each device will hold.
 *
 * @param model a checkpoint directory (only headers and zero points are read), the name of a preset
 *   (`'Qwen2.5-72B-Instruct'`, ...), or a config.json as an object, including its quantization_config
 * @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL, INVALID_OPTION; the reason of the signal if it aborts
 */
export async function planModel(model: string | URL | RawConfig, options: PlanOptions = {}): Promise<ModelPlan> {
  const read = readOptions(planOptions, options)
  return withOwnSignal(read.signal, async (signal) => {
    const { config, weights } = await weightSource(model, signal)
    const definition = await runCooperatively(modelOf(config, weights, read), signal)
    return await runCooperatively(plan(definition, weights, await resolveDevices(read, thisMachine)), signal)
  })
}

async function weightSource(
  model: string | URL | RawConfig,
  signal: AbortSignal,
): Promise<{ config: RawConfig; weights: PlanSource }> {
  if (isConfig(model)) {
    const config = snapshot(model, 'model') as RawConfig
    return { config, weights: configWeights(textModelConfig(config).config) }
  }
  const name = readPath(model, 'model', 'a directory, the name of a preset, or a config.json as an object')
  const config = Object.hasOwn(presets, name) ? presets[name] : undefined
  if (config !== undefined) return { config, weights: configWeights(config) }
  if (await isDirectory(name)) {
    const checkpoint = await openCheckpoint(name, { signal })
    const weights = await runCooperatively(weightsOf(checkpoint), signal)
    emitCheckpointWarnings(checkpointWarnings(checkpoint))
    return { config: checkpoint.config, weights }
  }
  const preset = findPreset(name)
  if (preset !== undefined) return { config: preset.config, weights: configWeights(preset.config) }
  throw new BillfishError(
    'INVALID_OPTION',
    `${name} is neither a checkpoint directory nor a preset${await suggestPath(name, resolve(name))}. ` +
      `Presets are ${Object.keys(presets).join(', ')}; all also with -FP8, -GPTQ-Int4, -GPTQ-Int8 or -AWQ.`,
  )
}

function isConfig(model: string | URL | RawConfig): model is RawConfig {
  return guarded('model', () => isRecord(model) && !isUrl(model))
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}
