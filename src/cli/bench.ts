import type { Command } from 'commander'
import { BillfishError } from '../errors'
import type { Model } from '../model'
import { memoryTable } from './answer'
import { formatBytes, formatMilliseconds, formatRate, formatTable } from './format'
import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { wholeNumber } from './options'
import { abortable, printJson, type Terminal } from './terminal'
import { writeTrace } from './trace'

interface Options extends LoadingOptions {
  readonly promptTokens: number
  readonly newTokens: number
  readonly concurrency: number
  readonly repeat: number
  readonly trace?: string
}

export function addBenchCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('bench')
    .description('Measure how fast a checkpoint loads, reads a prompt and generates')
    .argument('<directory>', 'a checkpoint as released on the Hugging Face Hub')
    .option('--prompt-tokens <count>', 'tokens of the prompt', wholeNumber, 512)
    .option('--new-tokens <count>', 'tokens to generate', wholeNumber, 64)
    .option('--concurrency <count>', 'sequences at the same time', wholeNumber, 1)
    .option('--trace <file>', 'write when each stage was busy, for ui.perfetto.dev')
    .option('--repeat <count>', 'runs that are measured, after one to warm up', wholeNumber, 5)
  addLoadingOptions(command)
    .addHelpText(
      'after',
      `
Random tokens as prompts, greedy. The medians are shown, and the slowest and fastest runs: tokens of all sequences
together, and how much of the time each stage was busy.

Examples:
  billfish bench ./Qwen2.5-7B-Instruct-GPTQ-Int4
  billfish bench ./model --prompt-tokens 2048 --new-tokens 128 --device-map split:cpu:0,cpu:1 --json`,
    )
    .action((directory: string, options: Options) =>
      abortable(terminal, (signal) => bench(terminal, directory, options, signal)),
    )
}

async function bench(terminal: Terminal, directory: string, options: Options, signal: AbortSignal): Promise<void> {
  const { concurrency } = options
  if (options.repeat < 1 || options.newTokens < 2 || options.promptTokens < 1 || concurrency < 1) {
    const least = '--repeat, --prompt-tokens and --concurrency must be at least 1, --new-tokens at least 2.'
    throw new BillfishError('INVALID_OPTION', least)
  }
  const started = performance.now()
  const sequences = options.sequences ?? Math.max(concurrency, 4)
  await using model = await loadForCommand(terminal, directory, { ...options, sequences }, signal)
  const loadMilliseconds = performance.now() - started
  const runs = await measure(model, options, signal)
  await writeTrace(options.trace, model)
  const memory = model.memory()
  const weights = memory.reduce((sum, device) => sum + device.weights, 0)
  if (options.json) {
    const { promptTokens, newTokens } = options
    printJson(terminal, {
      directory,
      promptTokens,
      newTokens,
      concurrency,
      loadMilliseconds,
      runs,
      deviceMap: model.deviceMap,
      memory,
    })
    return
  }
  const row = (name: string, values: readonly number[]) => [name, ...spread(values).map(formatRate)]
  terminal.stdout.write(
    `Loaded ${formatBytes(weights)} of weights in ${formatMilliseconds(loadMilliseconds)}\n\n` +
      formatTable(
        [
          ['Tokens per second', 'Median', 'Slowest', 'Fastest'],
          row(
            `prompt of ${options.promptTokens}`,
            runs.map(({ prefillTokensPerSecond }) => prefillTokensPerSecond),
          ),
          row(
            `generating ${options.newTokens}`,
            runs.map(({ decodeTokensPerSecond }) => decodeTokensPerSecond),
          ),
        ],
        'lrrr',
      ) +
      `\n${busyTable(model, runs)}\n${memoryTable(memory)}`,
  )
}

/** How much of the time each stage was busy. */
function busyTable(model: Model, runs: readonly Run[]): string {
  const rows = model
    .trace()
    .stages.map((name, stage) => [name, ...spread(runs.map((run) => run.utilization[stage] as number)).map(percent)])
  return formatTable([['Stage busy', 'Median', 'Least', 'Most'], ...rows], 'lrrr')
}

const percent = (part: number) => `${(100 * part).toFixed(0)} %`

interface Run {
  /** Milliseconds to the last sequence's first token. */
  readonly timeToFirstToken: number
  readonly prefillTokensPerSecond: number
  readonly decodeTokensPerSecond: number
  /** By stage, 0 to 1. */
  readonly utilization: readonly number[]
}

async function measure(model: Model, options: Options, signal: AbortSignal): Promise<Run[]> {
  const runs: Run[] = []
  for (let index = 0; index <= options.repeat; index++) {
    const run = await measureOnce(model, options, index, signal)
    if (index > 0) runs.push(run)
  }
  return runs
}

async function measureOnce(model: Model, options: Options, index: number, signal: AbortSignal): Promise<Run> {
  const { concurrency, promptTokens, newTokens } = options
  const firstStep = (model.trace().steps.at(-1)?.step ?? -1) + 1
  const results = await Promise.all(
    Array.from({ length: concurrency }, (_, i) =>
      model
        .generate(randomTokens(promptTokens, model.limits.vocabulary, index * concurrency + i), {
          maxNewTokens: newTokens,
          temperature: 0,
          repetitionPenalty: 1,
          ignoreEos: true,
          signal,
        })
        .result(),
    ),
  )
  const timeToFirstToken = Math.max(...results.map(({ timings }) => timings.timeToFirstToken))
  const total = Math.max(...results.map(({ timings }) => timings.total))
  return {
    timeToFirstToken,
    prefillTokensPerSecond: (concurrency * promptTokens * 1000) / timeToFirstToken,
    decodeTokensPerSecond: (concurrency * (newTokens - 1) * 1000) / (total - timeToFirstToken),
    utilization: model.trace().slice(firstStep).utilization(),
  }
}

/** The same tokens for the same seed, whatever the machine: a minimal standard generator (Park and Miller). */
function randomTokens(count: number, vocabulary: number, seed: number): number[] {
  let state = seed + 1
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647
    return state % vocabulary
  })
}

/** Median, lowest and highest. */
function spread(values: readonly number[]): [number, number, number] {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (index: number) => sorted[index] as number
  const middle = (sorted.length - 1) / 2
  return [(at(Math.floor(middle)) + at(Math.ceil(middle))) / 2, at(0), at(sorted.length - 1)]
}
