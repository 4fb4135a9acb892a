import { type Command, InvalidArgumentError } from 'commander'
import { z } from 'zod'
import { BillfishError } from '../common/errors'
import { generateOptions as entryPoint, type GenerateOptions } from '../generation/sampling-options'
import { readOptions } from '../options/read-options'

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i

/**
 * Reads the number of an option that the API has, too: whether it is in range, the API says. Digits of more than a number
 * holds (of a seed) stay as they are.
 * @param schema the API's, whose description says what the option must be
 */
export function numberFor(schema: z.ZodType): (text: string) => number | string {
  return (text) => {
    const mayBe = schema instanceof z.ZodNumber && schema.isInt ? /^\d+$/ : NUMBER
    if (!mayBe.test(text)) throw new InvalidArgumentError(`It must be ${schema.description}.`)
    return /^\d+$/.test(text) && !Number.isSafeInteger(Number(text)) ? text : Number(text)
  }
}

/** Reads a whole number of an option that the command line alone has. */
export function wholeNumber(low = 0, high = Number.POSITIVE_INFINITY): (text: string) => number {
  return (text) => {
    if (isWhole(text, low) && Number(text) <= high) return Number(text)
    const range = Number.isFinite(high) ? `from ${low} to ${high}` : `from ${low} upwards`
    throw new InvalidArgumentError(`It must be a whole number ${range}.`)
  }
}

/** Reads several with commas between. @param example two or three of them */
export function wholeNumbers(low: number, example: string): (text: string) => number[] {
  return (text) => {
    const wrong = text.split(',').find((part) => !isWhole(part, low))
    if (wrong === undefined) return text.split(',').map(Number)
    throw new InvalidArgumentError(
      `It must be whole numbers from ${low} upwards with commas between: ${example}; '${wrong}' is no whole number from ${low} on.`,
    )
  }
}

function isWhole(text: string, low: number): boolean {
  return /^\s*\d{1,15}\s*$/.test(text) && Number(text) >= low
}

function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text]
}

/** `enable_thinking=false`: the value is JSON, or else a text. */
function collectVariable(text: string, before: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const [, name, value] = /^([A-Za-z_]\w*)=(.*)$/s.exec(text) ?? []
  if (name === undefined || value === undefined) throw new InvalidArgumentError('It must look like name=value.')
  try {
    return { ...before, [name]: JSON.parse(value) }
  } catch {
    return { ...before, [name]: value }
  }
}

/** Options of every command that generates. */
export interface SamplingCliOptions {
  readonly maxNewTokens?: number
  readonly temperature?: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly repetitionPenalty?: number
  readonly presencePenalty?: number
  readonly frequencyPenalty?: number
  readonly seed?: GenerateOptions['seed']
  readonly stop?: readonly string[]
  readonly ignoreEos?: boolean
  readonly logprobs?: number
  readonly variable?: Readonly<Record<string, unknown>>
}

export function addSamplingOptions(command: Command): Command {
  const { schemas } = entryPoint
  return command
    .option('-n, --max-new-tokens <count>', 'tokens to generate at most', numberFor(schemas.maxNewTokens))
    .option(
      '--temperature <number>',
      "0 takes the likeliest token, 1 samples from the model's distribution",
      numberFor(schemas.temperature),
    )
    .option('--top-k <count>', 'sample from this many likeliest tokens; 0 for all', numberFor(schemas.topK))
    .option('--top-p <share>', 'sample from the fewest tokens whose probabilities sum to this', numberFor(schemas.topP))
    .option('--min-p <share>', 'drop tokens less likely than this share of the likeliest', numberFor(schemas.minP))
    .option(
      '--repetition-penalty <factor>',
      'penalize tokens in prompt and answer (1: off)',
      numberFor(schemas.repetitionPenalty),
    )
    .option(
      '--presence-penalty <number>',
      'penalize tokens already in the answer (0: off)',
      numberFor(schemas.presencePenalty),
    )
    .option(
      '--frequency-penalty <number>',
      'penalize tokens once for each time they are in the answer (0: off)',
      numberFor(schemas.frequencyPenalty),
    )
    .option('--seed <number>', 'seed of the sampling; the same seed gives the same answer', numberFor(schemas.seed))
    .option('--stop <text>', 'end the answer before this text; may be repeated', collect)
    .option('--ignore-eos', "continue past the model's end tokens")
    .option(
      '--logprobs <count>',
      'with --json: log-probabilities, with this many alternatives per token',
      numberFor(schemas.logprobs),
    )
    .option(
      '--variable <name=value>',
      'a variable for the chat template, such as enable_thinking=false',
      collectVariable,
    )
}

/**
 * Checks what can be checked without a model, so that a wrong option is reported before one is loaded.
 * @param json whether the command prints JSON, the only output with log-probabilities
 * @throws BillfishError INVALID_OPTION
 */
export function checkSamplingOptions(options: SamplingCliOptions, json: boolean | undefined): void {
  readOptions(entryPoint, generateOptions(options, undefined))
  if (options.logprobs === undefined || json) return
  throw new BillfishError('INVALID_OPTION', '--logprobs shows nothing without --json: add --json, or drop --logprobs.')
}

/** The command line's options as those of `model.generate()`. */
export function generateOptions(options: SamplingCliOptions, signal: AbortSignal | undefined): GenerateOptions {
  const { variable, stop, ...sampling } = options
  return {
    maxNewTokens: sampling.maxNewTokens,
    temperature: sampling.temperature,
    topK: sampling.topK,
    topP: sampling.topP,
    minP: sampling.minP,
    repetitionPenalty: sampling.repetitionPenalty,
    presencePenalty: sampling.presencePenalty,
    frequencyPenalty: sampling.frequencyPenalty,
    seed: sampling.seed,
    stop,
    ignoreEos: sampling.ignoreEos,
    logprobs: sampling.logprobs,
    chatTemplate: variable && { variables: variable },
    signal,
  }
}
