import { BillfishError } from '../errors'
import type { SampledToken, SamplingSpec } from '../native/addon'
import type { Runner, RunnerLimits } from '../pipeline/runner'
import type { GenerationAssets } from './assets'
import { ChunkQueue } from './chunk-queue'
import { Detokenizer } from './detokenizer'
import { checkTokens, type GenerateInput, readPrompt } from './prompt'
import {
  type AnswerLength,
  answerLength,
  type GenerateOptions,
  type ResolvedOptions,
  resolveOptions,
} from './sampling-options'
import { StopStrings } from './stop-strings'

/** Why a generation ended: an end token or stop string (`stop`), or its length. */
export type FinishReason = 'stop' | 'length'

/** A token with its log-probability (natural log, of the model's unmodified distribution) and the likeliest alternatives. */
export type TokenLogprob = SampledToken

/** A piece of a generation: the tokens that came since the last piece, and the text that is now certain. */
export interface GenerationChunk {
  /** Never cuts a character in two; may be empty, and may lag behind `tokenIds`. */
  readonly text: string
  readonly tokenIds: readonly number[]
  /** One a token, if `logprobs` was asked for. */
  readonly logprobs?: readonly TokenLogprob[] | undefined
}

export interface GenerationUsage {
  readonly promptTokens: number
  readonly completionTokens: number
  readonly totalTokens: number
}

/** Wall-clock times as the caller sees them, tokenizing the prompt and waiting for other generations included. */
export interface GenerationTimings {
  /** Milliseconds from generate() to the first token. */
  readonly timeToFirstToken: number
  /** Milliseconds from generate() to the last token. */
  readonly total: number
  /** Prompt tokens over the time to the first token, a second. */
  readonly prefillTokensPerSecond: number
  /** Tokens after the first over the time that they took, a second; 0 if there was only one. */
  readonly decodeTokensPerSecond: number
}

export interface GenerationResult {
  /** The end token, where one ended the generation, included. */
  readonly tokenIds: readonly number[]
  /** Empty if the checkpoint has no tokenizer. */
  readonly text: string
  readonly finishReason: FinishReason
  /** The stop string or end token that ended it. */
  readonly stoppedBy?: string | number | undefined
  readonly logprobs?: readonly TokenLogprob[] | undefined
  /** The seed that was used: given as an option, it gives the same answer again. */
  readonly seed: bigint
  readonly usage: GenerationUsage
  readonly timings: GenerationTimings
}

/** The tokens of a prompt that is being encoded elsewhere. */
interface PendingTokens {
  readonly tokens: Promise<readonly number[]>
  /** Rejects them with `error`. */
  cancel(error: unknown): void
}

/**
 * A generation under way. It runs whether or not it is read: iterate it for chunks as they come, await `result()` for
 * the whole, or both. An abort or a failure rejects either.
 */
export class Generation implements AsyncIterable<GenerationChunk> {
  private readonly options: ResolvedOptions
  private readonly chunks = new ChunkQueue<GenerationChunk>()
  private readonly tokenIds: number[] = []
  private readonly logprobs: TokenLogprob[] = []
  private readonly outcome: Promise<GenerationResult>
  /** Empty until a long text has been tokenized. */
  private prompt: readonly number[] = []
  private length: AnswerLength
  private readonly detokenizer: Detokenizer | undefined
  private readonly stopStrings: StopStrings
  private readonly started = performance.now()
  private firstTokenAt = 0
  private lastTokenAt = 0
  private text = ''
  private finishReason: FinishReason = 'length'
  private stoppedBy: string | number | undefined

  /** @internal */
  constructor(
    runner: Runner,
    assets: GenerationAssets,
    limits: Pick<RunnerLimits, 'maxModelLength' | 'vocabulary'>,
    input: GenerateInput,
    options: GenerateOptions,
  ) {
    const prompt = readPrompt(input, assets, options)
    this.options = resolveOptions(options, assets.defaults, limits.vocabulary)
    if (this.options.stop.length > 0 && !assets.tokenizer) throw assets.missingTokenizer('stop strings')
    this.detokenizer = assets.tokenizer && new Detokenizer(assets.tokenizer, { skipSpecialTokens: true })
    this.stopStrings = new StopStrings(this.options.stop)
    const { maxNewTokens, minNewTokens } = options
    const lengthBehind = (promptLength: number) =>
      answerLength({ maxNewTokens, minNewTokens }, assets.defaults, limits.maxModelLength - promptLength)
    if ('text' in prompt) {
      this.length = lengthBehind(1) // refuses at once what no prompt would leave room for
      const { output, cancel } = assets.worker.encode(prompt)
      const tokens = output.then((encoded) => {
        this.length = lengthBehind(encoded.length) // first: of a text that is too long they are very many
        return checkTokens(toArray(encoded), limits.vocabulary)
      })
      this.outcome = this.start(runner, { tokens, cancel })
    } else {
      this.length = lengthBehind(prompt.length)
      this.outcome = this.start(runner, prompt)
    }
    this.outcome.catch(() => {}) // whoever reads the chunks or the result sees it
  }

  /**
   * The whole generation, once it has ended.
   * @throws BillfishError ABORTED, DISPOSED, INTERNAL; INVALID_OPTION if a long prompt turns out to leave no room
   */
  result(): Promise<GenerationResult> {
    return this.outcome
  }

  /** The chunks from the beginning, for one reader. Leaving the loop early does not stop the generation: abort it. */
  [Symbol.asyncIterator](): AsyncIterator<GenerationChunk> {
    return this.chunks[Symbol.asyncIterator]()
  }

  private start(runner: Runner, prompt: readonly number[] | PendingTokens): Promise<GenerationResult> {
    const { signal } = this.options
    let settle!: { resolve(result: GenerationResult): void; reject(error: unknown): void }
    const outcome = new Promise<GenerationResult>((resolve, reject) => {
      settle = { resolve, reject }
    })
    const end = (error?: unknown) => {
      signal?.removeEventListener('abort', abort)
      this.chunks.end(error)
      if (error === undefined) settle.resolve(this.finish())
      else settle.reject(error)
    }
    const abort = () => cancel(aborted(signal as AbortSignal))
    let cancel: (error: unknown) => void
    const submit = (tokens: readonly number[]) => {
      this.prompt = tokens
      cancel = runner.submit({
        prompt: tokens,
        maxNewTokens: this.length.maxNewTokens,
        sampling: () => this.sampling(),
        onStep: ({ sample }) => (sample ? this.accept(sample) : undefined),
        onEnd: end,
      })
      if (signal?.aborted) abort() // also while the tokens were on their way from the encoder to here
    }
    if ('tokens' in prompt) {
      cancel = prompt.cancel
      prompt.tokens.then(submit).catch(end)
      if (signal?.aborted) abort()
    } else {
      submit(prompt)
    }
    signal?.addEventListener('abort', abort, { once: true })
    return outcome
  }

  private sampling(): SamplingSpec {
    const { options, tokenIds } = this
    const penalised = options.repetitionPenalty !== 1 || options.presencePenalty !== 0 || options.frequencyPenalty !== 0
    return {
      ...options.sampling,
      step: tokenIds.length,
      ...(options.repetitionPenalty !== 1 && { promptTokens: Int32Array.from(this.prompt) }),
      ...(penalised && { generatedTokens: Int32Array.from(tokenIds) }),
      ...(tokenIds.length < this.length.minNewTokens && { bannedTokens: Int32Array.from(options.endTokenIds) }),
    }
  }

  /** Takes a token; returns it if the generation goes on. */
  private accept(sample: SampledToken): number | undefined {
    const { options, tokenIds } = this
    const { token } = sample
    tokenIds.push(token)
    this.lastTokenAt = performance.now()
    if (tokenIds.length === 1) this.firstTokenAt = this.lastTokenAt
    if (options.logprobs >= 0) this.logprobs.push(sample)

    let text = ''
    if (options.endTokenIds.has(token)) {
      this.stop(token)
      text = this.flush()
    } else {
      const stopped = this.stopStrings.push(this.detokenizer?.push(token) ?? '')
      text = stopped.text
      if (stopped.stopped !== null) this.stop(stopped.stopped)
      else if (tokenIds.length === this.length.maxNewTokens) text += this.flush()
    }
    this.text += text
    this.chunks.push({
      text,
      tokenIds: [token],
      ...(options.logprobs >= 0 && { logprobs: [sample] }),
    })
    return this.stoppedBy === undefined && tokenIds.length < this.length.maxNewTokens ? token : undefined
  }

  private stop(by: string | number): void {
    this.finishReason = 'stop'
    this.stoppedBy = by
  }

  /** The text that was held back: an unfinished character, the beginning of a stop string. */
  private flush(): string {
    const { text, stopped } = this.stopStrings.push(this.detokenizer?.flush() ?? '')
    if (stopped !== null) {
      this.stop(stopped)
      return text
    }
    return text + this.stopStrings.flush()
  }

  private get seed(): bigint {
    const [low, high] = this.options.sampling.seed
    return (BigInt(high) << 32n) | BigInt(low)
  }

  private finish(): GenerationResult {
    const { prompt, tokenIds, started, firstTokenAt, lastTokenAt } = this
    const timeToFirstToken = firstTokenAt - started
    const decoding = lastTokenAt - firstTokenAt
    return {
      tokenIds,
      text: this.text,
      finishReason: this.finishReason,
      stoppedBy: this.stoppedBy,
      ...(this.options.logprobs >= 0 && { logprobs: this.logprobs }),
      seed: this.seed,
      usage: {
        promptTokens: prompt.length,
        completionTokens: tokenIds.length,
        totalTokens: prompt.length + tokenIds.length,
      },
      timings: {
        timeToFirstToken,
        total: lastTokenAt - started,
        prefillTokensPerSecond: perSecond(prompt.length, timeToFirstToken),
        decodeTokensPerSecond: perSecond(tokenIds.length - 1, decoding),
      },
    }
  }
}

/** Array.from(), which goes through an iterator, takes three times as long. */
function toArray(ids: Int32Array): number[] {
  const array = new Array<number>(ids.length)
  for (let i = 0; i < ids.length; i++) array[i] = ids[i] as number
  return array
}

function perSecond(count: number, milliseconds: number): number {
  return milliseconds > 0 ? (count * 1000) / milliseconds : 0
}

function aborted(signal: AbortSignal): BillfishError {
  return new BillfishError('ABORTED', 'The generation was aborted by its signal.', { cause: signal.reason })
}

export type { GenerateInput }
