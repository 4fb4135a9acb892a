import { type Command, InvalidArgumentError } from 'commander'
import { BillfishError } from '../errors'
import { type GenerateOptions, generateOptions as schemas } from '../generation/sampling-options'
import { readOptions } from '../options/read-options'

function number(text: string): number {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) throw new InvalidArgumentError('It must be a number.')
  return Number(text)
}

export function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(text)
}

/** Digits as they stand: a seed may have more than a number can hold. */
function digits(text: string): string {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return text
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
  readonly seed?: string
  readonly stop?: readonly string[]
  readonly ignoreEos?: boolean
  readonly logprobs?: number
  readonly variable?: Readonly<Record<string, unknown>>
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('-n, --max-new-tokens <count>', 'the most tokens to generate', wholeNumber)
    .option('--temperature <number>', '0 takes the likeliest token, 1 samples from the model as it is', number)
    .option('--top-k <count>', 'sample from this many likeliest tokens; 0 for all', wholeNumber)
    .option('--top-p <share>', 'sample from the fewest tokens of this probability together', number)
    .option('--min-p <share>', 'leave out tokens less likely than this, relative to the likeliest', number)
    .option('--repetition-penalty <factor>', 'make tokens of prompt and answer less likely (1: off)', number)
    .option('--presence-penalty <number>', 'make tokens of the answer less likely (0: off)', number)
    .option('--frequency-penalty <number>', 'the same, once for each time (0: off)', number)
    .option('--seed <number>', 'the same seed gives the same answer', digits)
    .option('--stop <text>', 'end the answer before this text; may be given several times', collect)
    .option('--ignore-eos', "go on after the model's end tokens")
    .option('--logprobs <count>', 'with --json: log-probabilities, and this many alternatives a token', wholeNumber)
    .option('--variable <name=value>', 'a variable for the chat template (enable_thinking=false)', collectVariable)
}

/**
 * Checks what needs no model, so that a wrong option is told before one is loaded.
 * @param json whether the command prints JSON, which alone has log-probabilities
 * @throws BillfishError INVALID_OPTION
 */
export function checkSamplingOptions(options: SamplingCliOptions, json: boolean | undefined): void {
  readOptions(schemas, generateOptions(options, undefined))
  if (options.logprobs === undefined || json) return
  throw new BillfishError('INVALID_OPTION', '--logprobs shows nothing without --json: add that, or leave it out.')
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
