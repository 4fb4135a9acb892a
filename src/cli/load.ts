import { type Command, Option } from 'commander'
import type { RawConfig } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { type LoadOptions, loadModel, loadOptions } from '../load'
import type { Model } from '../model'
import { openCheckpoint } from '../open-checkpoint'
import { planModel } from '../plan'
import { chatTemplateText } from './chat-template'
import { localCheckpoint } from './checkpoint'
import { numberFor } from './options'
import { addPlacementOptions, type PlacementCliOptions, placementOptions } from './placement-options'
import { planTable } from './plan-table'
import { parseSpeculativeConfig } from './speculative-config'
import { bytesBar, type Terminal, widthOf } from './terminal'

/** Options of every command that loads a model. */
export interface LoadingOptions extends PlacementCliOptions {
  readonly microBatches?: number
  readonly offloadDirectory?: string
  /** A file or a template, for commands that have the option. */
  readonly chatTemplate?: string
  readonly prefixCache?: boolean
  readonly speculativeConfig?: string
  readonly json?: boolean
  readonly quiet?: boolean
}

export function addLoadingOptions(
  command: Command,
  defaultMap = 'auto, over all GPUs of this machine or on its CPU',
): Command {
  return addPlacementOptions(command, defaultMap)
    .option(
      '--micro-batches <count>',
      'steps in flight (default: one per device that works independently)',
      numberFor(loadOptions.schemas.microBatches),
    )
    .option(
      '--offload-directory <dir>',
      "directory for the weights of device 'disk' (default: the temporary directory)",
    )
    .addOption(new Option('--prefix-cache', 'the default').hideHelp())
    .option('--no-prefix-cache', 'compute every prompt from its first token, whatever was computed before')
    .option(
      '--speculative-config <json>',
      'draft tokens by prompt look-up, as in vLLM: {"method": "ngram", "num_speculative_tokens": 4, ' +
        '"prompt_lookup_min": 2, "prompt_lookup_max": 4}',
    )
    .option('--json', 'print JSON only')
    .option('--quiet', 'print no plan, progress bar or statistics')
}

/**
 * Plans a checkpoint as the options say, shows the plan on standard error, and loads it with a progress bar where
 * standard error is a terminal.
 * @param given a directory, or a model's name on the Hub
 * @param defaultMap the device map where the options name neither one nor devices, if it is not auto
 * @throws BillfishError OUT_OF_MEMORY where the plan does not fit, and what planning and loading throw
 */
export async function loadForCommand(
  terminal: Terminal,
  given: string,
  options: LoadingOptions,
  signal: AbortSignal,
  defaultMap?: string,
): Promise<Model> {
  const directory = await localCheckpoint(terminal, given, options, signal)
  await openCheckpoint(directory, { signal }) // a preset's name can be planned, but not loaded
  const chatTemplate = options.chatTemplate === undefined ? undefined : await chatTemplateText(options.chatTemplate)
  const load = (given: LoadOptions) => loadModel(directory, { ...given, chatTemplate })
  return loadPlanned(terminal, { model: directory, load }, options, signal, defaultMap)
}

/** What can be planned, and loaded as planned. */
export interface Loadable {
  /** A checkpoint directory, or a config.json as an object. */
  readonly model: string | RawConfig
  load(options: LoadOptions): Promise<Model>
}

/** {@link loadForCommand} for anything. */
export async function loadPlanned(
  terminal: Terminal,
  { model, load }: Loadable,
  options: LoadingOptions,
  signal: AbortSignal,
  defaultMap?: string,
): Promise<Model> {
  const { microBatches, offloadDirectory, prefixCache, speculativeConfig } = options
  const speculation = speculativeConfig === undefined ? undefined : parseSpeculativeConfig(speculativeConfig)
  const chosen = options.devices === undefined && options.maxMemory === undefined ? defaultMap : undefined
  const plan = await planModel(model, await placementOptions(model, options, chosen))
  const shown = options.quiet !== true && options.json !== true
  if (shown) terminal.stderr.write(`${planTable(plan, widthOf(terminal.stderr))}\n`)
  if (!plan.fits) {
    throw new BillfishError('OUT_OF_MEMORY', `The model does not fit. ${plan.explanation.join(' ')}`)
  }
  const bar = shown ? bytesBar(terminal, 'Loading {bar} {percentage}%  {done} of {all}') : undefined
  try {
    const onProgress = bar?.update
    return await load({ plan, microBatches, offloadDirectory, prefixCache, speculation, signal, onProgress })
  } finally {
    bar?.stop()
  }
}
