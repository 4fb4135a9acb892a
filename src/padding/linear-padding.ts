import type { Checkpoint } from '../checkpoint/types'
import type { TensorRef } from '../native/weights'
import type { PaddingPlacement } from '../quantization/padding'

/** Reads a whole tensor, for the few small ones whose contents decide what is written. */
export type ReadTensor = (tensor: TensorRef) => Promise<Uint8Array>

export interface LinearPadding {
  readonly checkpoint: Checkpoint
  readonly read: ReadTensor
  /** Outputs of gate and up, inputs of down. */
  readonly dimension: 'outputs' | 'inputs'
  readonly padded: number
  readonly placement: PaddingPlacement
}
