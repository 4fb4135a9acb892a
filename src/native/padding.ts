import type { ChannelRunSpec, LinearSpec } from './weights'

/** A linear in both forms, of which GPTQ's have their zero points also where a symmetric scheme leaves them unread. */
export interface PaddedLinear {
  readonly original: LinearSpec
  readonly padded: LinearSpec
  /** The padded linear's channels in their order; absent: those of the original. */
  readonly outputs?: readonly ChannelRunSpec[]
  readonly inputs?: readonly ChannelRunSpec[]
}

/** Compares linears, in order, until two differ; binding/padding/compare.h says how. One result a linear that is the same. */
export interface PaddingSpec {
  readonly kind: 'padding'
  /** Absolute paths; TensorRef.file is an index into them. */
  readonly originalFiles: readonly string[]
  readonly paddedFiles: readonly string[]
  readonly linears: readonly PaddedLinear[]
}

export interface PaddingComparison {
  /** Between the linears after the last result; null where there is none. */
  readonly difference: string | null
}
