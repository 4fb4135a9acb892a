import { BillfishError } from '../errors'
import { readGenerationDefaults } from '../generation/generation-config'
import { TextWorker } from '../generation/text-worker'
import type { ModelSource } from '../load'
import { configWeights } from '../placement/plan-model'
import { findPreset, shortPresetNames } from '../placement/preset-names'

/** A model that is to be had without its files: right in shapes and types, random in its numbers. */
export interface RandomModel {
  /** The preset's name. */
  readonly name: string
  /** Layers that it is cut to, and those of the whole model. */
  readonly layers: number
  readonly allLayers: number
  readonly source: ModelSource
}

/**
 * @param preset `qwen2-72b-int4`, or another name that findPreset() knows
 * @param layers fewer layers than the model has; all by default
 * @throws BillfishError INVALID_OPTION
 */
export function randomModel(preset: string, layers?: number): RandomModel {
  const found = findPreset(preset)
  if (!found) {
    throw new BillfishError(
      'INVALID_OPTION',
      `--random: there is no model '${preset}'. There are ${shortPresetNames().join(', ')}; -int4, -int8 and -awq may follow.`,
    )
  }
  const allLayers = Number(found.config.num_hidden_layers)
  if (layers !== undefined && (layers < 1 || layers > allLayers)) {
    throw new BillfishError('INVALID_OPTION', `--layers is ${layers}, but ${found.name} has 1 to ${allLayers} layers.`)
  }
  const config = { ...found.config, num_hidden_layers: layers ?? allLayers }
  return {
    name: found.name,
    layers: layers ?? allLayers,
    allLayers,
    source: {
      config,
      weights: configWeights(config),
      files: [],
      randomWeights: true,
      assets: async ({ vocabulary }) => ({
        tokenizer: undefined,
        worker: new TextWorker({ file: '' }),
        chatTemplate: undefined,
        defaults: readGenerationDefaults({}, config, undefined, vocabulary),
        vocabulary,
        missingTokenizer: (use) => new BillfishError('INVALID_OPTION', `A random model has no tokenizer for ${use}.`),
      }),
    },
  }
}
