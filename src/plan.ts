import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { RawConfig } from './checkpoint/types'
import { emitCheckpointWarnings } from './checkpoint/warnings'
import { BillfishError } from './common/errors'
import { runCooperatively } from './common/event-loop'
import { checkpointDirectory, isOnHub } from './hub/checkpoint-directory'
import { missingFrom } from './hub/needed-files'
import { suggestPath } from './hub/path-suggestions'
import { checkpointWarnings, modelOf, weightsOf } from './models/registry'
import { textModelConfig } from './models/text-model-config'
import { openCheckpoint, readConfigs } from './open-checkpoint'
import { isUrl, readPath } from './options/path'
import { readOptions } from './options/read-options'
import { withOwnSignal } from './options/signal'
import { guarded, isRecord, snapshot } from './options/snapshot'
import type { PlanSource } from './placement/accelerate/stored-modules'
import { resolveDevices } from './placement/available-devices'
import { configSource } from './placement/config-source'
import { configWeights, type ModelPlan, plan } from './placement/plan-model'
import { type PlanOptions, planOptions } from './placement/plan-options'
import { findPreset, presets } from './placement/presets'
import { thisMachine } from './this-machine'

/**
 * Plans a model without loading it: the placement of its modules, and the exact bytes that each device will hold.
 *
 * @param model a checkpoint directory (only headers and zero points are read), the name of a preset
 *   (`'Qwen2.5-72B-Instruct'`, ...), a config.json as an object, including its quantization_config, or a model's name on the
 *   Hub, `'OWNER/NAME'` or `'OWNER/NAME@REVISION'`, of which only config files are downloaded: without its weights in the
 *   cache, sizes follow from these, as the explanation says
 * @throws BillfishError INVALID_CHECKPOINT, UNSUPPORTED_MODEL, INVALID_OPTION, DOWNLOAD_FAILED; the reason of the signal if it
 *   aborts
 */
export async function planModel(model: string | URL | RawConfig, options: PlanOptions = {}): Promise<ModelPlan> {
  const read = readOptions(planOptions, options)
  return withOwnSignal(read.signal, async (signal) => {
    const { config, weights, note } = await weightSource(model, signal)
    const definition = await runCooperatively(modelOf(config, weights, read), signal)
    const planned = await runCooperatively(plan(definition, weights, await resolveDevices(read, thisMachine)), signal)
    return note === undefined ? planned : { ...planned, explanation: [...planned.explanation, note] }
  })
}

/** What is planned. */
interface Planned {
  readonly config: RawConfig
  readonly weights: PlanSource
  /** A sentence: where its sizes come from, if they are not those of its files. */
  readonly note?: string
}

async function weightSource(model: string | URL | RawConfig, signal: AbortSignal): Promise<Planned> {
  if (isConfig(model)) {
    const config = snapshot(model, 'model') as RawConfig
    return { config, weights: configWeights(textModelConfig(config).config) }
  }
  const name = readPath(model, 'model', 'a directory, the name of a preset, or a config.json as an object')
  const config = Object.hasOwn(presets, name) ? presets[name] : undefined
  if (config !== undefined) return { config, weights: configWeights(config) }
  if (await isDirectory(name)) return storedSource(name, signal)
  if (await isOnHub(name)) return hubSource(name, signal)
  const preset = findPreset(name)
  if (preset !== undefined) return { config: preset.config, weights: configWeights(preset.config) }
  throw new BillfishError(
    'INVALID_OPTION',
    `${name} is neither a checkpoint directory, a preset nor the name of a model on the Hub${await suggestPath(name, resolve(name))}. ` +
      `Presets are ${Object.keys(presets).join(', ')}; all also with -FP8, -GPTQ-Int4, -GPTQ-Int8 or -AWQ.`,
  )
}

async function storedSource(directory: string, signal: AbortSignal): Promise<Planned> {
  const checkpoint = await openCheckpoint(directory, { signal })
  const weights = await runCooperatively(weightsOf(checkpoint), signal)
  emitCheckpointWarnings(checkpointWarnings(checkpoint))
  return { config: checkpoint.config, weights }
}

/** A model of the Hub: as it is in the cache, or, without its weights there, as its config files describe it. */
async function hubSource(name: string, signal: AbortSignal): Promise<Planned> {
  const directory = await checkpointDirectory(name, 'settings', { signal })
  if ((await missingFrom(directory)).length === 0) return storedSource(directory, signal)
  const { config, quantization } = await readConfigs(directory)
  const note = `The weights of ${name} are not downloaded; their sizes are those that its config files describe.`
  return { config, weights: configSource(textModelConfig(config).config, quantization), note }
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
