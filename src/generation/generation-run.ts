import type { SampledToken, SamplingSpec } from '../native/addon'
import { type OwnSignal, onAbort, ownSignal } from '../options/signal'
import type { Runner, RunnerLimits, SubmittedSequence } from '../pipeline/runner'
import type { GenerationAssets } from './assets'
import { ChunkQueue } from './chunk-queue'
import { Detokenizer } from './detokenizer'
import type { LongText } from './long-text'
import { checkTokens, type GenerateInput, type PendingPrompt, readPrompt } from './prompt'
import type { FinishReason, GenerationResult, TokenLogprob } from './results'
import {
  type AnswerLength,
  answerLength,
  type GenerateOptions,
  type ResolvedOptions,
  resolveOptions,
} from './sampling-options'
import { StopStrings } from './stop-strings'
import type { TextWorker } from './text-worker'
import { noTokenRules, rulesOfStep, withRules } from './token-rules'

/** Chunks that may wait for a reader: some seconds of reading, and some tens of kilobytes. */
export const MAX_WAITING_CHUNKS = 256

/** A chunk that has not been read; tokens that come meanwhile may still be added to it. */
interface WaitingChunk {
  text: string
  readonly tokenIds: number[]
  readonly logprobs?: TokenLogprob[]
}

/**
 * A generation as the model's threads see it: from a prompt to the last token. What callers hold is a
 * {@link Generation}, which nobody here refers to, so that one that is dropped can be told from one that is read.
 */
export class GenerationRun {
  /** The whole, once it has ended. */
  readonly outcome: Promise<GenerationResult>
  readonly chunks: ChunkQueue<WaitingChunk>
  readonly #options: ResolvedOptions
  readonly #tokenIds: number[] = []
  readonly #logprobs: TokenLogprob[] = []
  /** Empty until a long text has been tokenized. */
  #prompt: readonly number[] = []
  #length: AnswerLength
  readonly #detokenizer: Detokenizer | undefined
  readonly #stopStrings: StopStrings
  readonly #started = performance.now()
  #firstTokenAt = 0
  #lastTokenAt = 0
  #text = ''
  #finishReason: FinishReason = 'length'
  #stoppedBy: string | number | undefined
  /** Undefined while a long text is being tokenized. */
  #sequence: SubmittedSequence | undefined
  #cancelPending: (error: unknown) => void = () => {}
  readonly #own: OwnSignal
  #settle!: { resolve(result: GenerationResult): void; reject(error: unknown): void }
  #state: 'running' | 'ended' | 'failed' = 'running'

  constructor(
    runner: Runner,
    assets: GenerationAssets,
    limits: Pick<RunnerLimits, 'maxModelLength' | 'vocabulary'>,
    input: GenerateInput,
    options: GenerateOptions,
  ) {
    const prompt = readPrompt(input, assets, options, limits.maxModelLength)
    this.#options = resolveOptions(options, assets.defaults, limits.vocabulary)
    if (this.#options.stop.length > 0 && !assets.tokenizer) throw assets.missingTokenizer('stop strings')
    this.#detokenizer = assets.tokenizer && new Detokenizer(assets.tokenizer, { skipSpecialTokens: true })
    this.#stopStrings = new StopStrings(this.#options.stop)
    this.chunks = new ChunkQueue(MAX_WAITING_CHUNKS, {
      merge: mergeChunk,
      pause: () => this.#sequence?.pause(),
      resume: () => this.#sequence?.resume(),
    })
    const { maxNewTokens, minNewTokens } = options
    const lengthBehind = (promptLength: number) =>
      answerLength({ maxNewTokens, minNewTokens }, assets.defaults, promptLength, limits.maxModelLength)
    // How many tokens a long text has is not known yet: what no prompt would leave room for is refused at once.
    this.#length = lengthBehind(isPending(prompt) ? 1 : prompt.length)
    this.#own = ownSignal(options.signal)
    this.outcome = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    this.outcome.catch(() => {}) // whoever reads the chunks or the result sees it
    try {
      if (isPending(prompt)) {
        this.#tokenize(assets.worker, prompt)
          .then((encoded) => {
            this.#length = lengthBehind(encoded.length) // first: of a text that is too long they are very many
            this.#submit(runner, checkTokens(toArray(encoded), limits.vocabulary))
          })
          .catch((error) => this.#end(error))
      } else {
        this.#submit(runner, prompt)
      }
    } catch (error) {
      this.#own.release()
      throw error
    }
    const { signal } = this.#own
    if (signal.aborted) this.cancel(signal.reason)
    else onAbort(signal, () => this.cancel(signal.reason))
  }

  /** What there is to say of it just now, for a person to read. */
  get summary() {
    const [status, text] = [this.#state === 'failed' ? 'failed or cancelled' : this.#state, this.#text]
    return {
      status,
      promptTokens: this.#prompt.length,
      completionTokens: this.#tokenIds.length,
      ...(this.#state === 'ended' && { finishReason: this.#finishReason, text }),
    }
  }

  /** Ends it with `error`, which the reader gets and the result is rejected with. Without effect once it has ended. */
  cancel(error: unknown): void {
    if (this.#sequence) this.#sequence.end(error)
    else this.#cancelPending(error)
  }

  /** @throws BillfishError what TextWorker.encode() refuses at once */
  #tokenize(worker: TextWorker, prompt: PendingPrompt): Promise<Int32Array> {
    const encode = (text: LongText) => {
      const { output, cancel } = worker.encode(text)
      this.#cancelPending = cancel
      return output
    }
    if ('text' in prompt) return encode(prompt)
    const { output, cancel } = worker.render(prompt.rendering)
    let cancelled: { readonly error: unknown } | undefined
    this.#cancelPending = (error) => {
      cancelled = { error }
      cancel(error)
    }
    return output.then((text) => {
      if (cancelled) throw cancelled.error // while the text was on its way from the thread to here
      return encode({ text, addSpecialTokens: false })
    })
  }

  #submit(runner: Runner, prompt: readonly number[]): void {
    this.#prompt = prompt
    this.#sequence = runner.submit({
      prompt,
      maxNewTokens: this.#length.maxNewTokens,
      sampling: () => this.#sampling(),
      onStep: ({ sample }) => (sample ? this.#accept(sample) : undefined),
      onEnd: (error) => this.#end(error),
    })
    const { signal } = this.#own
    if (signal.aborted) this.cancel(signal.reason) // while the tokens were on their way from the encoder to here
  }

  #end(error: unknown): void {
    this.#own.release()
    this.#state = error === undefined ? 'ended' : 'failed'
    this.chunks.end(error)
    if (error === undefined) this.#settle.resolve(this.#finish())
    else this.#settle.reject(error)
  }

  #sampling(): SamplingSpec {
    const options = this.#options
    const tokenIds = this.#tokenIds
    const penalized = options.repetitionPenalty !== 1 || options.presencePenalty !== 0 || options.frequencyPenalty !== 0
    const sampling: SamplingSpec = {
      ...options.sampling,
      step: tokenIds.length,
      ...(options.repetitionPenalty !== 1 && { promptTokens: Int32Array.from(this.#prompt) }),
      ...(penalized && { generatedTokens: Int32Array.from(tokenIds) }),
      ...(tokenIds.length < this.#length.minNewTokens && { bannedTokens: Int32Array.from(options.endTokenIds) }),
    }
    if (options.rules === noTokenRules) return sampling
    return withRules(sampling, rulesOfStep(options.rules, this.#prompt, tokenIds, this.#length.maxNewTokens))
  }

  /** Takes a token; returns it if the generation goes on. */
  #accept(sample: SampledToken): number | undefined {
    const options = this.#options
    const tokenIds = this.#tokenIds
    const { token } = sample
    tokenIds.push(token)
    this.#lastTokenAt = performance.now()
    if (tokenIds.length === 1) this.#firstTokenAt = this.#lastTokenAt
    if (options.logprobs >= 0) this.#logprobs.push(sample)

    let text = ''
    if (options.endTokenIds.has(token)) {
      this.#stop(token)
      text = this.#flush()
    } else {
      const stopped = this.#stopStrings.push(this.#detokenizer?.push(token) ?? '')
      text = stopped.text
      if (stopped.stopped !== null) this.#stop(stopped.stopped)
      else if (tokenIds.length === this.#length.maxNewTokens) text += this.#flush()
    }
    this.#text += text
    this.chunks.push({
      text,
      tokenIds: [token],
      ...(options.logprobs >= 0 && { logprobs: [sample] }),
    })
    return this.#stoppedBy === undefined && tokenIds.length < this.#length.maxNewTokens ? token : undefined
  }

  #stop(by: string | number): void {
    this.#finishReason = 'stop'
    this.#stoppedBy = by
  }

  /** The text that was held back: an unfinished character, the beginning of a stop string. */
  #flush(): string {
    const { text, stopped } = this.#stopStrings.push(this.#detokenizer?.flush() ?? '')
    if (stopped !== null) {
      this.#stop(stopped)
      return text
    }
    return text + this.#stopStrings.flush()
  }

  get #seed(): bigint {
    const [low, high] = this.#options.sampling.seed
    return (BigInt(high) << 32n) | BigInt(low)
  }

  #finish(): GenerationResult {
    const promptTokens = this.#prompt.length
    const tokenIds = this.#tokenIds
    const timeToFirstToken = this.#firstTokenAt - this.#started
    const decoding = this.#lastTokenAt - this.#firstTokenAt
    return {
      tokenIds,
      text: this.#text,
      finishReason: this.#finishReason,
      ...(this.#stoppedBy !== undefined && { stoppedBy: this.#stoppedBy }),
      ...(this.#options.logprobs >= 0 && { logprobs: this.#logprobs }),
      seed: String(this.#seed),
      usage: {
        promptTokens,
        completionTokens: tokenIds.length,
        totalTokens: promptTokens + tokenIds.length,
      },
      timings: {
        timeToFirstToken,
        total: this.#lastTokenAt - this.#started,
        prefillTokensPerSecond: perSecond(promptTokens, timeToFirstToken),
        decodeTokensPerSecond: perSecond(tokenIds.length - 1, decoding),
      },
    }
  }
}

function isPending(prompt: readonly number[] | PendingPrompt): prompt is PendingPrompt {
  return !Array.isArray(prompt)
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

function mergeChunk(waiting: WaitingChunk, chunk: WaitingChunk): void {
  waiting.text += chunk.text
  waiting.tokenIds.push(...chunk.tokenIds)
  if (chunk.logprobs) waiting.logprobs?.push(...chunk.logprobs)
}
