import { readExactly, withFile } from '../checkpoint/files'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import type { TensorType } from '../native/weights'

/** The classifier of a checkpoint with one label: its logit is weight . h, h the last hidden state after the norm. */
export interface ScoreHead {
  readonly weight: Float32Array
}

/**
 * Reads `score.weight` of a sequence classifier; undefined if there is none.
 * @throws BillfishError UNSUPPORTED_MODEL for several labels; INVALID_CHECKPOINT
 */
export async function readScoreHead(checkpoint: Checkpoint, hiddenSize: number): Promise<ScoreHead | undefined> {
  const tensor = checkpoint.find('score.weight')
  if (tensor === undefined) return undefined
  const { shape, dtype, file, offset, bytes } = tensor
  if (shape.length !== 2 || shape[0] !== 1 || shape[1] !== hiddenSize || !/F/.test(dtype)) {
    throw new BillfishError(
      'UNSUPPORTED_MODEL',
      `${checkpoint.directory}: score.weight is ${dtype} [${shape.join(', ')}]; billfish scores with one label, [1, ${hiddenSize}] in a floating-point type.`,
    )
  }
  const path = checkpoint.files[file] as string
  return { weight: toFloats(await withFile(path, (handle) => readExactly(handle, offset, bytes, path)), dtype) }
}

function toFloats(bytes: Uint8Array, type: TensorType): Float32Array {
  if (type === 'F32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2)
  if (type === 'BF16') return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer)
  return Float32Array.from(halves, halfToFloat)
}

/** fp16: sign, 5 bits of exponent (bias 15), 10 of mantissa. */
function halfToFloat(bits: number): number {
  const [sign, exponent, mantissa] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023]
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15)
}
