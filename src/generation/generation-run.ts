import type { AnswerEvent } from '../chat/answer-events'
import { BillfishError } from '../common/errors'
import { NONE_ALLOWED, type SampledToken, type SamplingSpec } from '../native/addon'
import { matched, type NativeMatcher } from '../native/grammar'
import { type OwnSignal, onAbort, ownSignal } from '../options/signal'
import type { Runner, RunnerLimits, SubmittedSequence } from '../pipeline/runner'
import type { AnswerReader } from './answer-reader'
import type { GenerationAssets } from './assets'
import { ChunkQueue } from './chunk-queue'
import { Detokenizer, keepingTokens } from './detokenizer'
import type { LongText } from './long-text'
import type { GenerationObservers } from './observer'
import { checkTokens, type GenerateInput, type PendingPrompt, readPrompt } from './prompt'
import type { FinishReason, GenerationResult, GenerationUsage, TokenLogprob } from './results'
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

/** Maximum queued chunks: a few seconds of reading, tens of kilobytes. */
const MAX_WAITING_CHUNKS = 256

/** An unread chunk; further tokens may be merged into it. */
interface WaitingChunk {
  text: string
  readonly tokenIds: number[]
  readonly logprobs?: TokenLogprob[]
  readonly events?: AnswerEvent[]
}

/**
 * The producing side of a generation, from prompt to last token. Callers hold a {@link Generation}, which nothing here
 * references, so that an abandoned one can be detected.
 */
export class GenerationRun {
  /** The complete result. */
  readonly outcome: Promise<GenerationResult>
  readonly chunks: ChunkQueue<WaitingChunk>
  readonly #options: ResolvedOptions
  readonly #tokenIds: number[] = []
  readonly #logprobs: TokenLogprob[] = []
  /** Empty until a long prompt has been tokenized. */
  #prompt: readonly number[] = []
  readonly #cacheSalt: string | undefined
  #length: AnswerLength
  readonly #detokenizer: Detokenizer | undefined
  readonly #stopStrings: StopStrings
  readonly #reader: AnswerReader | undefined
  readonly #started = performance.now()
  #firstTokenAt = 0
  #lastTokenAt = 0
  #text = ''
  #finishReason: FinishReason = 'length'
  #stoppedBy: string | number | undefined
  /** Undefined while a long prompt is being tokenized. */
  #sequence: SubmittedSequence | undefined
  #cancelPending: (error: unknown) => void = () => {}
  /** Of an answer whose form is given. */
  #matcher: NativeMatcher | undefined
  /** Whether nothing can follow the text in its form. */
  #isComplete = false
  readonly #own: OwnSignal
  readonly #observers: GenerationObservers
  #settle!: { resolve(result: GenerationResult): void; reject(error: unknown): void }
  #state: 'running' | 'ended' | 'failed' = 'running'
  #isCancelled = false

  constructor(
    runner: Runner,
    assets: GenerationAssets,
    limits: Pick<RunnerLimits, 'maxModelLength' | 'vocabulary'>,
    input: GenerateInput,
    options: GenerateOptions,
    observers: GenerationObservers,
    reader?: AnswerReader,
  ) {
    this.#observers = observers
    const prompt = readPrompt(input, assets, options, limits.maxModelLength)
    this.#options = resolveOptions(options, assets.defaults, limits.vocabulary)
    if (this.#options.stop.length > 0 && !assets.tokenizer) throw assets.missingTokenizer('The option stop')
    this.#detokenizer =
      assets.tokenizer &&
      new Detokenizer(keepingTokens(assets.tokenizer, reader?.tags ?? []), { skipSpecialTokens: true })
    this.#reader = reader
    const form = reader ? reader.form : options.structuredOutput
    if (form && !assets.grammars) throw assets.missingTokenizer('The option structuredOutput')
    this.#stopStrings = new StopStrings(this.#options.stop)
    this.#cacheSalt = options.cacheSalt
    this.chunks = new ChunkQueue(MAX_WAITING_CHUNKS, {
      merge: mergeChunk,
      pause: () => this.#sequence?.pause(),
      resume: () => this.#sequence?.resume(),
    })
    const { maxNewTokens, minNewTokens } = options
    const lengthAfter = (promptLength: number) =>
      answerLength({ maxNewTokens, minNewTokens }, assets.defaults, promptLength, limits.maxModelLength)
    // The token count of a long text is not known yet: check what holds for any prompt.
    this.#length = lengthAfter(isPending(prompt) ? 1 : prompt.length)
    this.#own = ownSignal(options.signal)
    this.outcome = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    this.outcome.catch(() => {}) // reported to the reader of chunks or result
    try {
      // Not async: what the worker refuses at once is thrown at once.
      const encode = (pending: PendingPrompt) =>
        this.#tokenize(assets.worker, pending).then((encoded) => {
          this.#length = lengthAfter(encoded.length) // check first: a too long text has very many
          return checkTokens(toArray(encoded), limits.vocabulary)
        })
      if (isPending(prompt) || form) {
        const tokens = isPending(prompt) ? encode(prompt) : prompt
        const matcher = form && assets.grammars?.matcher(form, this.#options.endTokenIds)
        Promise.all([tokens, matcher && this.#unlessCancelled(matcher)])
          .then(([encoded, ready]) => {
            this.#matcher = ready
            this.#submit(runner, encoded)
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

  /** Summary for console.log(). */
  get summary() {
    const [status, text] = [this.#state === 'failed' ? 'failed or cancelled' : this.#state, this.#text]
    return {
      status,
      promptTokens: this.#prompt.length,
      completionTokens: this.#tokenIds.length,
      ...(this.#state === 'ended' && { finishReason: this.#finishReason, text }),
    }
  }

  /** Ends it with `error`, which rejects reader and result. No effect once it has ended. */
  cancel(error: unknown): void {
    this.#isCancelled = true
    if (this.#sequence) this.#sequence.end(error)
    else this.#cancelPending(error)
  }

  /** @throws BillfishError errors that TextWorker.encode() throws synchronously */
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
      if (cancelled) throw cancelled.error // cancelled while the text was in transit from the thread
      return encode({ text, addSpecialTokens: false })
    })
  }

  /** Rejects, too, when the generation is cancelled before it has been submitted. */
  #unlessCancelled<Value>(promise: Promise<Value>): Promise<Value> {
    return new Promise((resolve, reject) => {
      const cancelPrompt = this.#cancelPending
      this.#cancelPending = (error) => {
        cancelPrompt(error)
        reject(error)
      }
      promise.then(resolve, reject)
    })
  }

  #submit(runner: Runner, prompt: readonly number[]): void {
    this.#prompt = prompt
    this.#reader?.begin(prompt)
    this.#sequence = runner.submit({
      prompt,
      maxNewTokens: this.#length.maxNewTokens,
      sampling: (draft) => this.#sampling(draft),
      speculates: () => this.#formMatcher === undefined,
      cacheSalt: this.#cacheSalt,
      onStep: ({ sample }) => (sample ? this.#accept(sample) : undefined),
      onEnd: (error) => this.#end(error),
    })
    const { signal } = this.#own
    if (signal.aborted) this.cancel(signal.reason) // aborted while the tokens were in transit
  }

  #end(error: unknown): void {
    this.#own.release()
    this.#state = error === undefined ? 'ended' : 'failed'
    this.chunks.end(error)
    if (error === undefined) {
      const result = this.#finish()
      this.#settle.resolve(result)
      this.#observers.onEnd({ reason: result.finishReason, usage: result.usage, timings: result.timings })
    } else {
      this.#settle.reject(error)
      const reason = this.#isCancelled ? 'abort' : 'error'
      this.#observers.onEnd({ reason, usage: this.#usage, timings: undefined })
    }
  }

  /** How the token behind the answer so far, and behind a draft of its next tokens, is sampled. */
  #sampling(draft: readonly number[]): SamplingSpec {
    const options = this.#options
    const tokenIds = draft.length === 0 ? this.#tokenIds : this.#tokenIds.concat(draft)
    const penalized = options.repetitionPenalty !== 1 || options.presencePenalty !== 0 || options.frequencyPenalty !== 0
    const sampling: SamplingSpec = {
      ...options.sampling,
      step: tokenIds.length,
      ...(options.repetitionPenalty !== 1 && { promptTokens: Int32Array.from(this.#prompt) }),
      ...(penalized && { generatedTokens: Int32Array.from(tokenIds) }),
      ...(this.#formMatcher
        ? { matcher: this.#formMatcher }
        : tokenIds.length < this.#length.minNewTokens && { bannedTokens: Int32Array.from(options.endTokenIds) }),
    }
    if (options.rules === noTokenRules) return sampling
    return withRules(sampling, rulesOfStep(options.rules, this.#prompt, tokenIds, this.#length.maxNewTokens))
  }

  /** Accepts a token; returns it if the generation continues. */
  #accept(sample: SampledToken): number | undefined {
    const options = this.#options
    const tokenIds = this.#tokenIds
    const { token } = sample
    this.#follow(token)
    tokenIds.push(token)
    this.#tokenArrived(performance.now())
    if (options.logprobs >= 0) this.#logprobs.push(sample)

    let text = ''
    if (options.endTokenIds.has(token)) {
      this.#stop(token)
      text = this.#flush()
    } else {
      const stopped = this.#stopStrings.push(this.#detokenizer?.push(token) ?? '')
      text = stopped.text
      if (stopped.stopped !== null) this.#stop(stopped.stopped)
      else if (this.#isComplete || tokenIds.length === this.#length.maxNewTokens) text += this.#flush()
      if (this.#isComplete) this.#finishReason = 'stop'
    }
    this.#text += text
    const events = this.#reader?.read(text)
    if (this.#reader?.isComplete) this.#finishReason = 'stop'
    const isLast = this.#finishReason === 'stop' || tokenIds.length === this.#length.maxNewTokens
    if (isLast) events?.push(...(this.#reader?.end(this.#finishReason, this.#stoppedBy) ?? []))
    this.chunks.push({
      text,
      tokenIds: [token],
      ...(options.logprobs >= 0 && { logprobs: [sample] }),
      ...(events && { events }),
    })
    return isLast ? undefined : token
  }

  /** What the next token has to match; nothing while the model reasons. */
  get #formMatcher(): NativeMatcher | undefined {
    return this.#reader?.isReasoning ? undefined : this.#matcher
  }

  /** Moves the matcher on. @throws BillfishError INVALID_OPTION if the form cannot be continued */
  #follow(token: number): void {
    const matcher = this.#formMatcher
    if (matcher === undefined) return
    if (token === NONE_ALLOWED) {
      const why = 'no token of the vocabulary that is not banned continues the answer in its form'
      throw new BillfishError('INVALID_OPTION', `The form of the answer: ${matcher.failure() || why}.`)
    }
    if (this.#options.endTokenIds.has(token)) return
    const state = matcher.accept(token)
    if (state === matched.refused) throw new BillfishError('INTERNAL', `Token ${token} is not of the answer's form.`)
    this.#isComplete = state === matched.finished
  }

  #tokenArrived(now: number): void {
    if (this.#tokenIds.length === 1) {
      this.#firstTokenAt = now
      this.#observers.onFirstToken(now - this.#started, this.#prompt.length)
    } else {
      this.#observers.onNextToken(now - this.#lastTokenAt)
    }
    this.#lastTokenAt = now
  }

  #stop(by: string | number): void {
    this.#finishReason = 'stop'
    this.#stoppedBy = by
  }

  /** Text that was held back: an incomplete character, or the start of a stop string. */
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

  get #usage(): GenerationUsage {
    const [promptTokens, completionTokens] = [this.#prompt.length, this.#tokenIds.length]
    const cachedTokens = this.#sequence?.cachedTokens ?? 0
    return { promptTokens, cachedTokens, completionTokens, totalTokens: promptTokens + completionTokens }
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
      usage: this.#usage,
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

/** Array.from() uses an iterator and takes three times as long. */
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
  if (chunk.events) waiting.events?.push(...chunk.events)
}
