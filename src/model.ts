import { type InspectOptions, inspect } from 'node:util'
import type { RawConfig } from './checkpoint/types'
import { BillfishError } from './common/errors'
import { type EmbeddingModel, type EmbeddingResult, type EmbedOptions, embed } from './embedding/embed'
import type { EmbeddingFiles } from './embedding/files'
import type { EmbeddingInput } from './embedding/inputs'
import { type RerankOptions, type RerankResult, rerank, type ScoreOptions, score } from './embedding/score'
import type { GenerationAssets } from './generation/assets'
import { startChat } from './generation/chat'
import type { ChatGeneration } from './generation/chat-generation'
import type { ChatMessage } from './generation/chat-message'
import { type ChatOptions, chatOptions } from './generation/chat-options'
import { Generation } from './generation/generation'
import { GenerationRun } from './generation/generation-run'
import { type GenerationObserver, GenerationObservers } from './generation/observer'
import type { GenerateInput } from './generation/prompt'
import { type GenerateOptions, generateOptions } from './generation/sampling-options'
import { readTokenIds } from './generation/token-ids'
import { byDevice, namedStages } from './loaded-stages'
import type { Activity, DeviceMemory, LoadedStage, MemoryUse } from './model-state'
import type { Model as Definition } from './models/architecture'
import type { StageModules } from './models/stages'
import type { NativeModel } from './native/addon'
import { guardMethods } from './options/method-guard'
import { optionsOf, readOptions } from './options/read-options'
import { cancelledBy, withOwnSignal } from './options/signal'
import { abortSignal, flag } from './options/values'
import { Runner, type RunnerLimits, type SubmittedSequence } from './pipeline/runner'
import type { SequenceRequest, SequenceStep } from './pipeline/sequence'
import type { Trace } from './pipeline/trace'
import { Tokenizer } from './tokenizer'

/** Options of {@link Model.forward}. */
export interface ForwardOptions {
  /** Also returns the hidden states of every layer. Default false. */
  readonly hiddenStates?: boolean | undefined
  /** Cancels the call, which rejects with its reason. */
  readonly signal?: AbortSignal | undefined
}

const forwardOptions = optionsOf<ForwardOptions>('model.forward()', { hiddenStates: flag(), signal: abortSignal() })

/** What {@link Model.forward} returns for T tokens; all numbers are fp32, row-major. */
export interface ForwardResult {
  /**
   * Shape [T, vocabSize]: the logit of token id v at position t is `logits[t * vocabSize + v]`. Empty if the checkpoint has
   * no head, as is usual for embedding models.
   */
  readonly logits: Float32Array
  readonly vocabSize: number
  /**
   * The embedding, then the output of each decoder layer before the final norm, each of shape [T, hiddenSize]. Empty
   * unless asked for.
   */
  readonly hiddenStates: readonly Float32Array[]
  /**
   * The hidden states after the final norm, shape [T, hiddenSize]: what embeddings are made of, and transformers'
   * `last_hidden_state`. Present if hidden states were asked for, and always for a checkpoint without a head; else empty.
   */
  readonly lastHiddenState: Float32Array
}

/** The sizes that a model was loaded with. */
export interface LoadedModelLimits {
  /** Tokens of the longest sequence, prompt and answer together. */
  readonly maxModelLength: number
  /** Sequences that are computed at the same time. */
  readonly maxSequences: number
  /** Tokens per KV block. */
  readonly blockSize: number
  /** Rows of the head: token ids are below this. */
  readonly vocabulary: number
  readonly hiddenSize: number
}

interface ModelParts {
  readonly native: NativeModel
  readonly config: RawConfig
  readonly definition: Definition
  readonly deviceMap: ReadonlyMap<string, string>
  readonly assets: GenerationAssets
  readonly embedding: EmbeddingFiles
  readonly limits: RunnerLimits
  readonly stages: readonly StageModules[]
  /** One entry per rank and branch, stage by stage. */
  readonly memory: readonly (MemoryUse & { readonly device: string })[]
}

/**
 * A loaded model, made by {@link loadModel}. Free it with `dispose()` or `await using`.
 *
 * All methods may be called concurrently; generations and forward passes share the model's steps.
 */
export class Model {
  readonly #native: NativeModel
  readonly #runner: Runner
  readonly #assets: GenerationAssets
  readonly #embedding: EmbeddingFiles
  readonly #planned: ReadonlyMap<string, MemoryUse>
  readonly #tokenizer: Tokenizer | undefined
  readonly #limits: ModelParts['limits']
  readonly #observers = new GenerationObservers()
  #disposal: Promise<void> | undefined
  /** Module -> device for every module, in forward order. */
  readonly deviceMap: Readonly<Record<string, string>>
  /** Consecutive modules with the same device, in forward order. */
  readonly stages: readonly LoadedStage[]
  /** The checkpoint's config.json, parsed. */
  readonly config: RawConfig
  readonly #hasHead: boolean
  readonly limits: LoadedModelLimits

  static {
    guardMethods(Model, (value) => #native in value, 'model')
  }

  /** @internal */
  constructor(parts: ModelParts) {
    this.#native = parts.native
    this.#assets = parts.assets
    this.#embedding = parts.embedding
    const { tokenizer, worker, chatTemplate } = parts.assets
    this.#tokenizer = tokenizer && new Tokenizer({ tokenizer, worker, chatTemplate }, false)
    this.deviceMap = Object.fromEntries(parts.deviceMap)
    this.config = parts.config
    this.#limits = parts.limits
    this.#hasHead = parts.definition.hasHead
    const { maxModelLength, maxSequences, blockSize, vocabulary, hiddenSize } = parts.limits
    this.limits = { maxModelLength, maxSequences, blockSize, vocabulary, hiddenSize } // a copy: callers may write to it
    this.#planned = byDevice(parts.memory)
    this.stages = namedStages(parts.stages)
    const ropeBase = (promptLength: number, length: number) => parts.definition.ropeBase(promptLength, length)
    this.#runner = new Runner(
      parts.native,
      parts.limits,
      ropeBase,
      this.stages.map(({ name }) => name),
    )
  }

  /**
   * One forward pass over a fresh sequence: the logits of every position, and hidden states if asked for.
   * @example
   * ```js
   * const { logits, vocabSize } = await model.forward([9707, 1879])
   * const last = logits.subarray(logits.length - vocabSize)
   * ```
   * @param tokenIds 1 to maxModelLength token ids, each below the vocabulary size
   * @throws BillfishError INVALID_OPTION, NON_FINITE, DEVICE_LOST, DISPOSED; the signal's reason once it aborts
   */
  async forward(tokenIds: ArrayLike<number>, options: ForwardOptions = {}): Promise<ForwardResult> {
    const { hiddenStates: wantHiddenStates = false, signal } = readOptions(forwardOptions, options)
    const { vocabulary, hiddenSize, maxModelLength } = this.#limits
    const why = 'maxModelLength: give fewer, or load the model with a larger one'
    const prompt = readTokenIds(tokenIds, { vocabulary, most: maxModelLength, why })
    const outputWidth = this.#hasHead ? vocabulary : hiddenSize
    const outputs = new Float32Array(prompt.length * outputWidth)
    let normed = new Float32Array(0)
    const hiddenStates: Float32Array[] = []
    let done = 0
    await this.#run(signal, (end) =>
      this.#runner.submit({
        prompt,
        maxNewTokens: 0,
        wantLogits: true,
        wantHiddenStates,
        onStep: (step) => {
          outputs.set(step.logits as Float32Array, done * outputWidth)
          if (step.normedStates) {
            if (done === 0) normed = new Float32Array(prompt.length * hiddenSize)
            normed.set(step.normedStates, done * hiddenSize)
          }
          const states = step.hiddenStates ?? []
          for (const [i, rows] of states.entries()) {
            hiddenStates[i] ??= new Float32Array(prompt.length * hiddenSize)
            hiddenStates[i].set(rows, done * hiddenSize)
          }
          done += (step.logits as Float32Array).length / outputWidth
          return undefined
        },
        onEnd: end,
      }),
    )
    const [logits, lastHiddenState] = this.#hasHead ? [outputs, normed] : [new Float32Array(0), outputs]
    return { logits, vocabSize: vocabulary, hiddenStates, lastHiddenState }
  }

  /** Tokenizer and chat template of the checkpoint; undefined if it has none. Disposed of with the model. */
  get tokenizer(): Tokenizer | undefined {
    return this.#tokenizer
  }

  /** Whether {@link generate} takes messages: the checkpoint has a chat template. */
  get hasChatTemplate(): boolean {
    return this.#assets.chatTemplate !== undefined
  }

  /**
   * Generates a continuation. Starts immediately; iterate over the result for chunks, or await `result()`.
   *
   * A prompt of more than 4096 bytes (for messages: once rendered) is tokenized on a separate thread so that it does
   * not block the event loop. Generations started later may then begin earlier, and errors that depend on the number of
   * tokens, i.e. a prompt or `maxNewTokens` too large for `maxModelLength`, reject `result()` and the iteration with
   * INVALID_OPTION. All other errors in options and input are thrown here.
   * @param input text, chat messages (rendered with the template of the checkpoint), or token ids
   * @throws BillfishError INVALID_OPTION for invalid options or input, UNSUPPORTED_MODEL if the model has no head,
   *   DISPOSED
   */
  generate(input: GenerateInput, options: GenerateOptions = {}): Generation {
    this.#checkGenerates()
    return new Generation(
      new GenerationRun(
        this.#runner,
        this.#assets,
        this.#limits,
        input,
        readOptions(generateOptions, options),
        this.#observers,
      ),
    )
  }

  /**
   * Answers a conversation: content, reasoning and tool calls apart, instead of one text. Starts and fails like
   * {@link generate}.
   * @example
   * ```js
   * const chat = model.chat(messages, { tools })
   * for await (const event of chat) if (event.type === 'content') process.stdout.write(event.text)
   * const { content, toolCalls } = await chat.result()
   * ```
   * @param messages a conversation in OpenAI's shape: answers with `tool_calls`, whose arguments are JSON, and their
   *   results, of the role `tool`, included
   * @throws BillfishError INVALID_OPTION for invalid options or messages, for tools of a model whose chat template shows
   *   no format that is known, or without a chat template; UNSUPPORTED_MODEL, DISPOSED
   */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): ChatGeneration {
    this.#checkGenerates()
    return startChat(
      this.#runner,
      this.#assets,
      this.#limits,
      messages,
      readOptions(chatOptions, options),
      this.#observers,
    )
  }

  /**
   * Embeds texts: one vector each, pooled and normalized as the checkpoint's files say (the last token's hidden state,
   * length 1, unless they say otherwise). Inputs are computed together, as many tokens a step as fit.
   * @example
   * ```js
   * const { embeddings } = await model.embed(['The capital of China is Beijing.', 'Gravity attracts.'])
   * const queries = await model.embed('What is the capital of China?', { instruct: 'Answer the question' })
   * ```
   * @param inputs a text, a list of texts, the token ids of one, or a list of these; token ids are taken as they are, with
   *   the end token that a text gets from the tokenizer
   * @throws BillfishError INVALID_OPTION, UNSUPPORTED_MODEL for a way of pooling that is not known, NON_FINITE,
   *   DEVICE_LOST, DISPOSED; the signal's reason once it aborts
   */
  async embed(inputs: EmbeddingInput, options: EmbedOptions = {}): Promise<EmbeddingResult> {
    const model = {
      config: () => this.#embedding.config(),
      tokenizer: this.#tokenizer,
      limits: this.#limits,
      normedStates: (...asked: Parameters<EmbeddingModel['normedStates']>) => this.#lastStates(...asked),
    }
    return embed(model, inputs, options)
  }

  /**
   * Scores how relevant documents are to a query, from 0 to 1, in the prompt of Qwen3-Reranker: by its language model, or
   * by a converted sequence classifier of one label.
   * @throws BillfishError INVALID_OPTION, UNSUPPORTED_MODEL for a model that gives no scores, NON_FINITE, DEVICE_LOST,
   *   DISPOSED; the signal's reason once it aborts
   */
  async rerank(query: string, documents: readonly string[], options: RerankOptions = {}): Promise<RerankResult> {
    return rerank(this.#scoring(), query, documents, options)
  }

  /**
   * Scores finished prompts: the probability of the answer "yes" against "no" after each, or, of a sequence classifier with
   * one label, the sigmoid of its logit.
   * @param inputs as those of {@link embed}; texts of prompts hold their special tokens
   * @returns one number from 0 to 1 for each input
   * @throws BillfishError as {@link rerank}
   */
  async score(inputs: EmbeddingInput, options: ScoreOptions = {}): Promise<Float32Array> {
    return score(this.#scoring(), inputs, options)
  }

  /**
   * Memory of this model, one entry per device. Cheap enough to poll.
   * @throws BillfishError DISPOSED
   */
  memory(): DeviceMemory[] {
    if (this.#disposal) throw disposed()
    const { blocks, slotsInUse } = this.#runner.state
    const { total, available } = blocks
    return [...byDevice(this.#native.memory())].map(([device, allocated]) => ({
      device,
      ...allocated,
      planned: this.#planned.get(device) as MemoryUse,
      kvCacheInUse: (allocated.kvCache / total) * (total - available),
      statesInUse: (allocated.states / this.#limits.maxSequences) * slotsInUse,
    }))
  }

  /** What the model is doing right now, for metrics and load shedding. Cheap to call. */
  activity(): Activity {
    const { waiting, running, paused, stepsInFlight, preemptions, blocks, busy, prefixCache, speculation } =
      this.#runner.state
    const { blockSize } = this.#limits
    const cacheTokens = { total: blocks.total * blockSize, inUse: (blocks.total - blocks.available) * blockSize }
    return {
      waiting: waiting + this.#assets.worker.pending,
      running,
      paused,
      stepsInFlight,
      cacheTokens,
      preemptions,
      busy: Object.fromEntries(busy),
      prefixCache,
      speculation,
    }
  }

  /**
   * Tells an observer of every generation from now on, those of others included.
   * @returns a function that ends this
   */
  observe(observer: GenerationObserver): () => void {
    return this.#observers.add(observer)
  }

  /**
   * Timeline of the last 4096 steps. Always recorded, at the cost of a few numbers per step.
   * `JSON.stringify(model.trace().toChromeTrace())` can be opened in ui.perfetto.dev or chrome://tracing.
   */
  trace(): Trace {
    return this.#runner.trace()
  }

  /**
   * Frees all resources. Running generations end with a DISPOSED error. Idempotent: further calls return the same
   * promise.
   */
  dispose(): Promise<void> {
    this.#disposal ??= this.#close()
    return this.#disposal
  }

  /** {@link dispose}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  /** For console.log(). @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const devices = [...this.#planned].map(([device, { weights, kvCache, states, buffers }]) => [
      device,
      { bytes: weights + kvCache + states + buffers },
    ])
    const { maxModelLength, maxSequences } = this.#limits
    return `Model ${inspect(
      {
        modelType: this.config.model_type,
        layers: Object.keys(this.deviceMap).filter((module) => /\.\d+$/.test(module)).length,
        ...(this.#disposal ? { disposed: true } : { devices: Object.fromEntries(devices) }),
        maxModelLength,
        maxSequences,
      },
      options,
    )}`
  }

  /** @throws BillfishError UNSUPPORTED_MODEL */
  #checkGenerates(): void {
    if (this.#limits.wholePrompts) {
      throw new BillfishError(
        'UNSUPPORTED_MODEL',
        'This model cannot generate text: its tokens see later ones (is_causal false in config.json). embed() gives its vectors.',
      )
    }
    if (!this.#hasHead) {
      throw new BillfishError(
        'UNSUPPORTED_MODEL',
        'This model cannot generate text: its checkpoint has no lm_head, like embedding models, classifiers and reward models. ' +
          'forward() returns its hidden states.',
      )
    }
  }

  #scoring() {
    return {
      tokenizer: this.#tokenizer,
      limits: this.#limits,
      head: () => this.#embedding.scoreHead(this.#limits.hiddenSize),
      hasLanguageHead: this.#hasHead,
      lastOutputs: async (tokens: readonly number[], signal: AbortSignal, cacheSalt: string | undefined) => {
        let last = new Float32Array(0)
        const wanted = { wantLogits: 'last', cacheSalt } as const
        await this.#prefill(tokens, wanted, signal, ({ logits }) => {
          if (logits && logits.length > 0) last = logits as Float32Array<ArrayBuffer>
        })
        return last
      },
    }
  }

  /** Hidden states after the final norm. */
  async #lastStates(
    tokens: readonly number[],
    rows: 'all' | 'last',
    signal: AbortSignal,
    cacheSalt: string | undefined,
  ): Promise<Float32Array> {
    const { hiddenSize } = this.#limits
    const wanted = { wantLogits: rows === 'all' || 'last', wantHiddenStates: this.#hasHead, cacheSalt } as const
    const states = new Float32Array((rows === 'all' ? tokens.length : 1) * hiddenSize)
    let done = 0
    await this.#prefill(tokens, wanted, signal, ({ logits, normedStates }) => {
      const own = (this.#hasHead ? normedStates : logits) ?? new Float32Array(0)
      states.set(own, done)
      done += own.length
    })
    return states
  }

  async #prefill(
    prompt: readonly number[],
    wanted: Pick<SequenceRequest, 'wantLogits' | 'wantHiddenStates' | 'cacheSalt'>,
    signal: AbortSignal,
    onStep: (step: SequenceStep) => void,
  ): Promise<void> {
    await this.#run(signal, (end) =>
      this.#runner.submit({
        ...wanted,
        prompt,
        maxNewTokens: 0,
        onStep: (step) => {
          onStep(step)
          return undefined
        },
        onEnd: end,
      }),
    )
  }

  async #close(): Promise<void> {
    this.#runner.close(disposed())
    await Promise.all([this.#native.close(), this.#assets.worker.close(disposed())])
  }

  async #run(
    given: AbortSignal | undefined,
    start: (end: (error?: unknown) => void) => SubmittedSequence,
  ): Promise<void> {
    await withOwnSignal(given, (signal) => {
      let sequence: SubmittedSequence | undefined
      const work = new Promise<void>((resolve, reject) => {
        sequence = start((error) => (error === undefined ? resolve() : reject(error)))
      })
      return cancelledBy(signal, (reason) => sequence?.end(reason), work)
    })
  }
}

function disposed(): BillfishError {
  return new BillfishError('DISPOSED', 'The model has been disposed. Load it again to use it.')
}
