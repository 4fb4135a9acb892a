import type { Command } from 'commander'
import { BillfishError } from '../errors'
import type { Model } from '../model'
import { memoryTable } from './answer'
import { formatBytes, formatMilliseconds, formatRate, formatTable } from './format'
import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { wholeNumber } from './options'
import { abortable, printJson, type Terminal } from './terminal'

interface Options extends LoadingOptions {
  readonly promptTokens: number
  readonly newTokens: number
  readonly repeat: number
}

export function addBenchCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('bench')
    .description('Measure how fast a checkpoint loads, reads a prompt and generates')
    .argument('<directory>', 'a checkpoint as released on the Hugging Face Hub')
    .option('--prompt-tokens <count>', 'tokens of the prompt', wholeNumber, 512)
    .option('--new-tokens <count>', 'tokens to generate', wholeNumber, 64)
    .option('--repeat <count>', 'runs that are measured, after one to warm up', wholeNumber, 5)
  addLoadingOptions(command)
    .addHelpText(
      'after',
      `
One sequence at a time, random tokens as the prompt, greedy. The medians are shown, and the slowest and fastest runs.

Examples:
  billfish bench ./Qwen2.5-7B-Instruct-GPTQ-Int4
  billfish bench ./model --prompt-tokens 2048 --new-tokens 128 --device-map split:cpu:0,cpu:1 --json`,
    )
    .action((directory: string, options: Options) =>
      abortable(terminal, (signal) => bench(terminal, directory, options, signal)),
    )
}

async function bench(terminal: Terminal, directory: string, options: Options, signal: AbortSignal): Promise<void> {
  if (options.repeat < 1 || options.newTokens < 2 || options.promptTokens < 1) {
    const least = '--repeat and --prompt-tokens must be at least 1, --new-tokens at least 2.'
    throw new BillfishError('INVALID_OPTION', least)
  }
  const started = performance.now()
  await using model = await loadForCommand(terminal, directory, options, signal)
  const loadMilliseconds = performance.now() - started
  const runs = await measure(model, options, signal)
  const memory = model.memory()
  const weights = memory.reduce((sum, device) => sum + device.weights, 0)
  if (options.json) {
    const { promptTokens, newTokens } = options
    printJson(terminal, {
      directory,
      promptTokens,
      newTokens,
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
      `\n${memoryTable(memory)}`,
  )
}

interface Run {
  readonly timeToFirstToken: number
  readonly prefillTokensPerSecond: number
  readonly decodeTokensPerSecond: number
}

async function measure(model: Model, options: Options, signal: AbortSignal): Promise<Run[]> {
  const runs: Run[] = []
  for (let index = 0; index <= options.repeat; index++) {
    const { timings } = await model
      .generate(randomTokens(options.promptTokens, model.limits.vocabulary, index), {
        maxNewTokens: options.newTokens,
        temperature: 0,
        repetitionPenalty: 1,
        ignoreEos: true,
        signal,
      })
      .result()
    const { timeToFirstToken, prefillTokensPerSecond, decodeTokensPerSecond } = timings
    if (index > 0) runs.push({ timeToFirstToken, prefillTokensPerSecond, decodeTokensPerSecond })
  }
  return runs
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
