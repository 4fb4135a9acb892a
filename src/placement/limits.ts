import { z } from 'zod'
import type { RawConfig } from '../checkpoint/types'
import { ceilDiv } from '../common/arithmetic'
import { BillfishError } from '../common/errors'
import type { ModelShape } from '../models/architecture'
import type { ModelSpec } from '../native/addon'
import type { TensorType } from '../native/weights'
import { invalidOption } from '../options/printed'
import type { OptionSchemas } from '../options/read-options'
import { flag, whole } from '../options/values'

/** Compute dtypes of a model. */
export type ModelType = 'auto' | 'float32' | 'float16' | 'bfloat16'

/** Options that determine the memory a model needs. */
export interface SizeOptions {
  /**
   * `'float32'` computes in fp32 throughout; only CPU devices can. `'auto'` (the default) and the 16-bit types differ by
   * device. A CUDA device keeps activations, unquantized weights and the KV cache in fp16 or bf16 (as named; by default
   * the config's torch_dtype) and accumulates in fp32. A CPU device keeps the KV cache in 16 bits (fp16, or as named) and
   * quantizes the input of every quantized linear to 16-bit integers with one scale per block of at most 128 values: closer
   * to fp32 than fp16 arithmetic, and much faster.
   */
  readonly dtype?: ModelType | undefined
  /** Tokens of the longest sequence, prompt and answer together. Default: the model's own limit, at most 8192. */
  readonly maxModelLength?: number | undefined
  /** Sequences computed at the same time; others wait. Default 4. */
  readonly maxSequences?: number | undefined
  /**
   * Maximum tokens per step; longer prompts are split into chunks. 512 by default. Models whose tokens see later ones
   * compute a sequence in one step; there it is the longest sequence, and at least maxModelLength by default.
   */
  readonly maxBatchTokens?: number | undefined
  /**
   * Tokens in the KV cache, for all sequences together: at least maxModelLength, and maxSequences times that by
   * default, so that no sequence ever lacks room. With less, sequences share it; when it runs out, the latest one is
   * preempted and recomputed.
   */
  readonly maxCacheTokens?: number | undefined
  /**
   * Devices that compute every stage together, each with its share of the heads, the MLP channels and the vocabulary; 1
   * by default. Dimensions that do not divide evenly are zero-padded, which changes no result.
   */
  readonly tensorParallelSize?: number | undefined
  /**
   * Whether each of these devices has some of a layer's experts whole, instead of a share of the channels of all. Only of
   * mixtures of experts. Default false.
   */
  readonly expertParallel?: boolean | undefined
}

/** {@link SizeOptions} resolved for one model. */
export interface ModelLimits
  extends Pick<
    ModelSpec,
    'exact' | 'cacheType' | 'blockSize' | 'blockCount' | 'maxSequences' | 'maxBatchTokens' | 'maxLogitRows'
  > {
  readonly maxModelLength: number
  /** Resolved maxCacheTokens. */
  readonly cacheTokens: number
  readonly tensorParallelSize: number
  readonly expertParallel: boolean
}

const BLOCK_SIZE = 32 // tokens a KV block
const DEFAULT_LENGTH = 8192
const DEFAULT_SEQUENCES = 4
const DEFAULT_BATCH_TOKENS = 512
const MAX_COUNT = 1 << 24
const MAX_RANKS = 64
const MAX_BLOCKS = 2 ** 31 - 1
const MIN_LOGIT_ROWS = 16 // rows the head computes at a time, for forward() calls, which need all of them

const DTYPES = "'auto', 'float32', 'float16' or 'bfloat16'"

export const sizeOptions: OptionSchemas<SizeOptions> = {
  dtype: z.enum(['auto', 'float32', 'float16', 'bfloat16']).describe(DTYPES),
  maxModelLength: whole(1, MAX_COUNT),
  maxSequences: whole(1, MAX_COUNT),
  maxBatchTokens: whole(1, MAX_COUNT),
  maxCacheTokens: whole(1, Number.MAX_SAFE_INTEGER, 'a whole number of at least 1'),
  tensorParallelSize: whole(1, MAX_RANKS),
  expertParallel: flag(),
}

/**
 * @param options validated {@link sizeOptions}
 * @throws BillfishError INVALID_OPTION for a KV cache that is too small for one sequence, or too large
 */
export function modelLimits(
  shape: Pick<ModelShape, 'maxPositions' | 'bidirectional'>,
  options: SizeOptions,
): ModelLimits {
  const {
    maxModelLength = Math.min(shape.maxPositions, DEFAULT_LENGTH),
    maxSequences = DEFAULT_SEQUENCES,
    // Where tokens see later ones, a step has whole sequences.
    maxBatchTokens = shape.bidirectional ? Math.max(DEFAULT_BATCH_TOKENS, maxModelLength) : DEFAULT_BATCH_TOKENS,
    tensorParallelSize = 1,
    expertParallel = false,
  } = options
  const { maxCacheTokens: cacheTokens = maxSequences * maxModelLength } = options
  const blocksOfOne = ceilDiv(maxModelLength, BLOCK_SIZE)
  const most = Math.max(maxSequences * maxModelLength, MAX_COUNT)
  if (cacheTokens > most) {
    throw invalidOption('maxCacheTokens', cacheTokens, `a whole number from 1 to ${most}`)
  }
  if (cacheTokens < maxModelLength) {
    throw new BillfishError(
      'INVALID_OPTION',
      `maxCacheTokens is ${cacheTokens}, but a sequence may have ${maxModelLength} tokens (maxModelLength). Raise maxCacheTokens or lower maxModelLength.`,
    )
  }
  const blockCount =
    options.maxCacheTokens === undefined ? maxSequences * blocksOfOne : ceilDiv(cacheTokens, BLOCK_SIZE)
  if (blockCount > MAX_BLOCKS) {
    throw new BillfishError(
      'INVALID_OPTION',
      `The KV cache would have ${blockCount} blocks of ${BLOCK_SIZE} tokens, but at most ${MAX_BLOCKS} can be numbered. Lower maxSequences, maxModelLength or maxCacheTokens.`,
    )
  }
  return {
    ...numberFormats(options.dtype),
    blockSize: BLOCK_SIZE,
    blockCount,
    maxBatchTokens,
    maxLogitRows: Math.max(MIN_LOGIT_ROWS, maxSequences),
    maxModelLength,
    maxSequences,
    cacheTokens,
    tensorParallelSize,
    expertParallel,
  }
}

/** Compute precision and cache dtype of a model type. @throws BillfishError INVALID_OPTION */
export function numberFormats(dtype: ModelType = 'auto'): Pick<ModelSpec, 'exact' | 'cacheType'> {
  switch (dtype) {
    case 'float32':
      return { exact: true, cacheType: 'F32' }
    case 'auto':
    case 'float16':
      return { exact: false, cacheType: 'F16' }
    case 'bfloat16':
      return { exact: false, cacheType: 'BF16' }
    default:
      throw invalidOption('dtype', dtype, DTYPES)
  }
}

/** Activation dtype on devices that compute in 16 bits: as named, else as the model was released. */
export function activationType(dtype: ModelType | undefined, config: RawConfig): ModelSpec['activationType'] {
  if (dtype === 'bfloat16') return 'BF16'
  return dtype !== 'float16' && floatType(config) === 'BF16' ? 'BF16' : 'F16'
}

/** torch_dtype (transformers 4) or dtype (transformers 5); fp16 if neither is set. */
export function floatType(config: RawConfig): TensorType {
  switch (config.torch_dtype ?? config.dtype) {
    case 'bfloat16':
      return 'BF16'
    case 'float32':
      return 'F32'
    default:
      return 'F16'
  }
}
