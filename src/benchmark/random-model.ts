import { BillfishError } from '../common/errors'
import { readGenerationDefaults } from '../generation/generation-config'
import { TextWorker } from '../generation/text-worker'
import type { ModelSource } from '../load'
import { configWeights } from '../placement/plan-model'
import { findPreset, shortPresetNames } from '../placement/presets'

/** A model without files: real shapes and dtypes, random weights. */
export interface RandomModel {
  /** Name of the preset. */
  readonly name: string
  /** Layers it is truncated to, and layers of the full model. */
  readonly layers: number
  readonly allLayers: number
  readonly source: ModelSource
}

/**
 * @param preset `qwen2-72b-int4`, or any name that findPreset() accepts
 * @param layers number of layers to keep; all by default
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
        grammars: undefined,
        defaults: readGenerationDefaults({}, config, undefined, vocabulary),
        vocabulary,
        missingTokenizer: (use) =>
          new BillfishError('INVALID_OPTION', `${use} requires a tokenizer, but a random model has none.`),
      }),
    },
  }
}
