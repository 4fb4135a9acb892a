import { type InspectOptions, inspect } from 'node:util'
import type { RawConfig } from './checkpoint/types'
import { BillfishError } from './errors'
import type { GenerationAssets } from './generation/assets'
import { Generation } from './generation/generation'
import { GenerationRun } from './generation/generation-run'
import type { GenerateInput } from './generation/prompt'
import { type GenerateOptions, generateOptions } from './generation/sampling-options'
import { readTokenIds } from './generation/token-ids'
import type { ModelLimits } from './limits'
import type { Model as Definition } from './models/architecture'
import type { NativeModel } from './native/addon'
import { guardMethods } from './options/method-guard'
import { optionsOf, readOptions } from './options/read-options'
import { onAbort, ownSignal } from './options/signal'
import { abortSignal, flag } from './options/values'
import { Runner, type RunnerLimits, type SubmittedSequence } from './pipeline/runner'
import type { Trace } from './pipeline/trace'
import { Tokenizer } from './tokenizer'

/** Bytes by what they are for. */
export interface MemoryUse {
  readonly weights: number
  readonly kvCache: number
  readonly buffers: number
}

/** Bytes that one device has allocated for a model, as its allocator counts them. */
export interface DeviceMemory extends MemoryUse {
  readonly device: string
  /** What the plan said before anything was loaded. */
  readonly planned: MemoryUse
  /** The part of kvCache that holds tokens of sequences just now. */
  readonly kvCacheInUse: number
}

/** What a model is at. */
export interface Activity {
  /** Sequences that wait for their turn or for KV blocks, or whose long text is being tokenized. */
  readonly waiting: number
  /** Sequences that are being computed. */
  readonly running: number
  /** Generations that are not computed for the time being, because their chunks are not read. */
  readonly paused: number
  /** Steps that the stages are at. */
  readonly stepsInFlight: number
  /** Tokens that the KV cache has room for, and that it is taken up by (in whole blocks). */
  readonly cacheTokens: { readonly total: number; readonly inUse: number }
  /** How many times, so far, a sequence had to give its part of the KV cache back and was computed again. */
  readonly preemptions: number
}

export interface ForwardOptions {
  readonly hiddenStates?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

const forwardOptions = optionsOf<ForwardOptions>('model.forward()', { hiddenStates: flag(), signal: abortSignal() })

export interface ForwardResult {
  /**
   * [T * vocabSize], row by row: logits[t * vocabSize + v]. Empty where the checkpoint has no head, as embedding models
   * are released.
   */
  readonly logits: Float32Array
  readonly vocabSize: number
  /** The embedding, then each decoder layer's raw output: [T * hiddenSize] each. Empty unless asked for. */
  readonly hiddenStates: readonly Float32Array[]
  /**
   * The hidden states behind the final norm, [T * hiddenSize]: what embeddings are made of, and transformers'
   * `last_hidden_state`. Of a checkpoint without a head always there, else if hidden states were asked for; or empty.
   */
  readonly lastHiddenState: Float32Array
}

interface ModelParts {
  readonly native: NativeModel
  readonly config: RawConfig
  readonly definition: Definition
  readonly deviceMap: ReadonlyMap<string, string>
  readonly assets: GenerationAssets
  readonly limits: RunnerLimits & Pick<ModelLimits, 'tensorParallelSize'>
  /** One a rank, stage after stage. */
  readonly stages: readonly (MemoryUse & { readonly device: string })[]
}

/** A loaded model. Made by `loadModel`; free it with `dispose()` or `await using`. */
export class Model {
  readonly #native: NativeModel
  readonly #runner: Runner
  readonly #assets: GenerationAssets
  readonly #stages: ModelParts['stages']
  readonly #tokenizer: Tokenizer | undefined
  readonly #limits: ModelParts['limits']
  #disposal: Promise<void> | undefined
  /** Module -> device, complete, in the order of the forward pass. */
  readonly deviceMap: Readonly<Record<string, string>>
  /** config.json as it was read. */
  readonly config: RawConfig
  readonly #hasHead: boolean
  readonly limits: Readonly<
    Pick<RunnerLimits, 'maxModelLength' | 'maxSequences' | 'blockSize' | 'vocabulary' | 'hiddenSize'>
  >

  static {
    guardMethods(Model, (value) => #native in value, 'model')
  }

  /** @internal */
  constructor(parts: ModelParts) {
    this.#native = parts.native
    this.#assets = parts.assets
    const { tokenizer, worker, chatTemplate } = parts.assets
    this.#tokenizer = tokenizer && new Tokenizer({ tokenizer, worker, chatTemplate }, false)
    this.deviceMap = Object.fromEntries(parts.deviceMap)
    this.config = parts.config
    this.#limits = parts.limits
    this.#hasHead = parts.definition.hasHead
    const { maxModelLength, maxSequences, blockSize, vocabulary, hiddenSize } = parts.limits
    this.limits = { maxModelLength, maxSequences, blockSize, vocabulary, hiddenSize } // a copy: callers may write to it
    this.#stages = parts.stages
    const ropeBase = (promptLength: number, length: number) => parts.definition.ropeBase(promptLength, length)
    this.#runner = new Runner(
      parts.native,
      parts.limits,
      ropeBase,
      stageNames(parts.stages, parts.limits.tensorParallelSize),
    )
  }

  /**
   * One pass over a fresh sequence: the logits of every position.
   * @param tokenIds at least one token, at most maxModelLength
   * @throws BillfishError INVALID_OPTION, NON_FINITE, DISPOSED; the signal's reason once it aborts
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

  /** The checkpoint's tokenizer and chat template; undefined if it has none. It is disposed of with the model. */
  get tokenizer(): Tokenizer | undefined {
    return this.#tokenizer
  }

  /** Whether messages can be given to {@link generate}: the checkpoint has a chat template. */
  get hasChatTemplate(): boolean {
    return this.#assets.chatTemplate !== undefined
  }

  /**
   * Generates a continuation. Begins at once; read it as an async iterable of chunks, or await `result()`.
   *
   * A text of more than 4096 bytes (of messages: the rendered one) is tokenized on a thread of its own, so that it does
   * not hold the event loop. A generation that is asked for later may then start earlier; and what only the number of
   * its tokens can tell, that the prompt or `maxNewTokens` is too much for `maxModelLength`, rejects `result()` and the
   * iteration with INVALID_OPTION. Everything else about options and input is thrown here.
   * @param input a text, chat messages (rendered with the checkpoint's template), or token ids
   * @throws BillfishError INVALID_OPTION for options and inputs that cannot be run, DISPOSED
   */
  generate(input: GenerateInput, options: GenerateOptions = {}): Generation {
    if (!this.#hasHead) {
      throw new BillfishError(
        'UNSUPPORTED_MODEL',
        'This model generates no text: its checkpoint has no lm_head, as embedding models, classifiers and reward models ' +
          'are released. forward() gives its hidden states.',
      )
    }
    return new Generation(
      new GenerationRun(this.#runner, this.#assets, this.#limits, input, readOptions(generateOptions, options)),
    )
  }

  /**
   * Bytes that each device holds for this model, by use; one entry a device. Cheap: call it as often as you like.
   * @throws BillfishError DISPOSED
   */
  memory(): DeviceMemory[] {
    if (this.#disposal) throw disposed()
    const { total, available } = this.#runner.state.blocks
    const planned = byDevice(this.#stages)
    return [...byDevice(this.#native.memory())].map(([device, allocated]) => ({
      device,
      ...allocated,
      planned: planned.get(device) as MemoryUse,
      kvCacheInUse: (allocated.kvCache / total) * (total - available),
    }))
  }

  /** What the model is at just now, for metrics and for services that turn work away. Cheap. */
  activity(): Activity {
    const { waiting, running, paused, stepsInFlight, preemptions, blocks } = this.#runner.state
    const { blockSize } = this.#limits
    const cacheTokens = { total: blocks.total * blockSize, inUse: (blocks.total - blocks.available) * blockSize }
    return { waiting: waiting + this.#assets.worker.pending, running, paused, stepsInFlight, cacheTokens, preemptions }
  }

  /**
   * When each stage was busy with what: the last 4096 steps. Always recorded, at the cost of a few numbers a step.
   * `JSON.stringify(model.trace().toChromeTrace())` is a file for ui.perfetto.dev or chrome://tracing.
   */
  trace(): Trace {
    return this.#runner.trace()
  }

  /** Frees everything. Generations under way end with a DISPOSED error. Safe to call again: it is the same promise. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#close()
    return this.#disposal
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  /** What console.log() shows. @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const devices = [...byDevice(this.#stages)].map(([device, { weights, kvCache, buffers }]) => [
      device,
      { bytes: weights + kvCache + buffers },
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

  async #close(): Promise<void> {
    this.#runner.close(disposed())
    await Promise.all([this.#native.close(), this.#assets.worker.close(disposed())])
  }

  async #run(
    given: AbortSignal | undefined,
    start: (end: (error?: unknown) => void) => SubmittedSequence,
  ): Promise<void> {
    const { signal, release } = ownSignal(given)
    try {
      await new Promise<void>((resolve, reject) => {
        const sequence = start((error) => (error === undefined ? resolve() : reject(error)))
        const abort = () => sequence.end(signal.reason)
        if (signal.aborted) abort()
        else onAbort(signal, abort)
      })
    } finally {
      release()
    }
  }
}

/** A device may have several stages. */
function byDevice(stages: ModelParts['stages']): Map<string, MemoryUse> {
  const devices = new Map<string, MemoryUse>()
  for (const { device, weights, kvCache, buffers } of stages) {
    const sum = devices.get(device) ?? { weights: 0, kvCache: 0, buffers: 0 }
    devices.set(device, {
      weights: sum.weights + weights,
      kvCache: sum.kvCache + kvCache,
      buffers: sum.buffers + buffers,
    })
  }
  return devices
}

function stageNames(ranks: ModelParts['stages'], tensorParallelSize: number): string[] {
  const stages = ranks
    .filter((_, i) => i % tensorParallelSize === 0)
    .map((_, stage) => ranks.slice(stage * tensorParallelSize, (stage + 1) * tensorParallelSize))
    .map((group) => [...new Set(group.map(({ device }) => device))].join(','))
  return stages.map((name, i) => (stages.filter((other) => other === name).length > 1 ? `stage ${i} (${name})` : name))
}

function disposed(): BillfishError {
  return new BillfishError('DISPOSED', 'The model has been disposed. Load it again to use it.')
}
