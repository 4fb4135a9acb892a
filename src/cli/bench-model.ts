import type { Command } from 'commander'
import { lengthOf, type ModelLoad, type ModelRun, measureModel } from '../benchmark/model'
import { randomModel } from '../benchmark/random-model'
import { medianMinMax } from '../benchmark/report'
import { BillfishError } from '../common/errors'
import { formatBytes, formatMilliseconds, formatRate, formatTable } from '../common/format'
import { type LoadOptions, loadFrom, loadOptions } from '../load'
import type { Model } from '../model'
import type { DeviceMemory } from '../model-state'
import { readOptions } from '../options/read-options'
import { memoryTable } from './answer'
import { pointsBar } from './bench-options'
import { addLoadingOptions, type LoadingOptions, loadForCommand, loadPlanned } from './load'
import { wholeNumber, wholeNumbers } from './options'
import { abortable, printJson, type Terminal } from './terminal'
import { writeTrace } from './trace'

interface Options extends LoadingOptions {
  readonly random?: string
  readonly layers?: number
  readonly batchSizes: readonly number[]
  readonly contexts: readonly number[]
  readonly newTokens: number
  readonly repeat: number
  readonly trace?: string
}

const DEFAULT_BATCH_TOKENS = 512 // of a step, where no option says otherwise

export function addBenchModelCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('model', { isDefault: true })
    .description('Measure loading, prefill and generation')
    .argument('[directory]', 'a checkpoint directory, or a model on the Hugging Face Hub')
    .option('--random <model>', "instead of a directory: random weights in a release's shapes, such as qwen2-72b-int4")
    .option('--layers <count>', 'with --random: only this many layers', wholeNumber(1))
    .option('--batch-sizes <list>', 'concurrent sequences: 1,4,16', wholeNumbers(1, '1,4,16'), [1])
    .option('--contexts <list>', 'tokens per prompt: 512,4096', wholeNumbers(1, '512,4096'), [512])
    .option('--new-tokens <count>', 'tokens to generate per sequence', wholeNumber(1), 64)
    .option('--trace <file>', 'write a trace of when each stage was busy, for ui.perfetto.dev')
    .option('--repeat <count>', 'measured runs, after one warm-up', wholeNumber(1), 5)
  addLoadingOptions(command)
    .addHelpText(
      'after',
      `
Prompts are random tokens, generation is greedy. Measures every batch size with every context: tokens per second of all
sequences together, prompts up to the last sequence's first token, generation from then on. Shows medians, the slowest and
fastest runs, and how busy each stage was.

Examples:
  billfish bench model ./Qwen2.5-7B-Instruct-GPTQ-Int4 --batch-sizes 1,4,16 --contexts 512,4096
  billfish bench model ./model --new-tokens 128 --device-map split:cpu:0,cpu:1 --json
  billfish bench model --random qwen2-72b-int4 --device-map cuda:0 --batch-sizes 1,8,32
  billfish bench model --random qwen2-7b-int4 --layers 2`,
    )
    .action((directory: string | undefined, options: Options) =>
      abortable(terminal, (signal) => benchModel(terminal, directory, options, signal)),
    )
}

/** A load and the results of its runs. */
interface Measured extends ModelLoad {
  readonly runs: readonly ModelRun[]
}

async function benchModel(
  terminal: Terminal,
  directory: string | undefined,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const { newTokens } = options
  const loads = options.contexts.flatMap((context) => options.batchSizes.map((batchSize) => ({ batchSize, context })))
  const subject = subjectOf(directory, options)
  const started = performance.now()
  await using model = await subject.load(terminal, { ...options, ...sizes(loads, options) }, signal)
  const loadMilliseconds = performance.now() - started
  const bar = options.quiet || options.json ? undefined : pointsBar(terminal)
  const results: Measured[] = []
  try {
    for (const load of loads) results.push({ ...load, runs: await runsOf(model, load, options, signal, bar?.update) })
  } finally {
    bar?.stop()
  }
  await writeTrace(options.trace, model)
  const report: ModelReport = {
    ...subject.names,
    newTokens,
    loadMilliseconds,
    results,
    stages: model.trace().stages,
    deviceMap: model.deviceMap,
    memory: model.memory(),
  }
  if (options.json) printJson(terminal, report)
  else terminal.stdout.write(modelText(report))
}

/** What was measured: of a checkpoint, or of `layers` of a release's `allLayers` layers with random weights. */
export interface ModelReport {
  readonly directory?: string
  readonly random?: string
  readonly layers?: number
  readonly allLayers?: number
  readonly newTokens: number
  readonly loadMilliseconds: number
  readonly results: readonly Measured[]
  readonly stages: readonly string[]
  readonly deviceMap: Model['deviceMap']
  readonly memory: readonly DeviceMemory[]
}

/** What is printed for people. */
export function modelText({ random, layers = 0, allLayers = 0, stages, results, ...report }: ModelReport): string {
  const cut = layers < allLayers ? `; ${layers} of its ${allLayers} layers: the whole model is slower than this` : ''
  const weights = report.memory.reduce((sum, device) => sum + device.weights, 0)
  return [
    random === undefined ? '' : `${random} with random weights${cut}\n`,
    `Loaded ${formatBytes(weights)} of weights in ${formatMilliseconds(report.loadMilliseconds)}\n\n`,
    `${resultTable(stages, results)}\n${memoryTable(report.memory)}`,
  ].join('')
}

interface Subject {
  readonly names: Pick<ModelReport, 'directory' | 'random' | 'layers' | 'allLayers'>
  load(terminal: Terminal, options: LoadingOptions, signal: AbortSignal): Promise<Model>
}

/** What is measured. @throws BillfishError INVALID_OPTION */
function subjectOf(directory: string | undefined, { random, layers }: Options): Subject {
  if ((directory === undefined) === (random === undefined)) {
    throw new BillfishError('INVALID_OPTION', 'Name a checkpoint directory, or a model with --random, and not both.')
  }
  if (directory !== undefined) {
    if (layers !== undefined) throw new BillfishError('INVALID_OPTION', '--layers goes with --random.')
    return {
      names: { directory },
      load: (terminal, options, signal) => loadForCommand(terminal, directory, options, signal),
    }
  }
  const { name, source, ...model } = randomModel(random as string, layers)
  const load = (options: LoadOptions) => loadFrom(source, readOptions(loadOptions, options))
  return {
    names: { random: name, layers: model.layers, allLayers: model.allLayers },
    load: (terminal, options, signal) => loadPlanned(terminal, { model: source.config, load }, options, signal),
  }
}

/** Sequences and their length as the largest load needs them, where no option says otherwise. */
function sizes(loads: readonly ModelLoad[], options: Options): Pick<LoadingOptions, 'sequences' | 'context'> {
  const { newTokens, maxBatchTokens = DEFAULT_BATCH_TOKENS } = options
  const context = Math.max(...loads.map((load) => lengthOf(load, newTokens, maxBatchTokens)))
  const sequences = options.sequences ?? Math.max(...loads.map(({ batchSize }) => batchSize))
  return options.context === undefined ? { sequences, context } : { sequences }
}

async function runsOf(
  model: Model,
  load: ModelLoad,
  { newTokens, repeat }: Options,
  signal: AbortSignal,
  onProgress: ((done: number, all: number) => void) | undefined,
): Promise<ModelRun[]> {
  const runs: ModelRun[] = []
  for (let index = 0; index <= repeat; index++) {
    onProgress?.(index, repeat + 1)
    const run = await measureModel(model, load, newTokens, index, signal)
    if (index > 0) runs.push(run) // the first one warms up
  }
  return runs
}

/** Tokens a second: medians, with the slowest and fastest runs. */
function resultTable(stages: readonly string[], results: readonly Measured[]): string {
  const range = (values: readonly number[]) => {
    const [median, least, most] = medianMinMax(values)
    return [formatRate(median), `(${formatRate(least)} - ${formatRate(most)})`]
  }
  const rows = results.map(({ batchSize, context, runs }) => [
    String(batchSize),
    String(context),
    ...range(runs.map(({ prefillTokensPerSecond }) => prefillTokensPerSecond)),
    ...range(runs.map(({ decodeTokensPerSecond }) => decodeTokensPerSecond)),
    ...stages.map((_, stage) => percent(medianMinMax(runs.map(({ utilization }) => utilization[stage] ?? 0))[0])),
  ])
  const busy = stages.map((name) => `${name} busy`)
  const head = ['Sequences', 'Context', 'Prompt tokens/s', 'in runs', 'Generated tokens/s', 'in runs', ...busy]
  return formatTable([head, ...rows], `rrrlrl${'r'.repeat(stages.length)}`)
}

const percent = (part: number) => `${(100 * part).toFixed(0)} %`
