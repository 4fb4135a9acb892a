import { basename } from 'node:path'
import type { TensorRef, TensorType } from '../native/weights'
import { invalidCheckpoint, quoted } from './invalid'
import type { UnsupportedTensor } from './types'

/** Dtypes allowed for scales, biases, norms and unquantized weights. */
export const FLOAT_TYPES: readonly TensorType[] = ['F16', 'BF16', 'F32']

/** What a name has in it that is of another part of a checkpoint than the text model: its towers, or a draft model. */
export const NON_TEXT_COMPONENT = /(^|\.)(mtp|draft|eagle|visual|vision\w*|audio\w*|talker|code2wav)\./

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dimension, i) => dimension === b[i])
}

export interface StoredValues {
  /**
   * For packed zero points: the code that all of them equal, if it is 0, 7, 8, 127 or 128 (at their bit width); else
   * undefined. Padding codes in the last word of a row are ignored.
   */
  readonly zeros: ReadonlyMap<string, number | undefined>
  /**
   * For a group index: the group size if groups are consecutive (input i is in group floor(i / size)); Infinity if
   * every input is in group 0; 0 for any other order.
   */
  readonly groupSizes: ReadonlyMap<string, number>
  /** Offset of GPTQ's stored 4-bit zero points, if they vary and the codes are conclusive. */
  readonly zeroOffset?: 0 | 1 | undefined
}

const noStoredValues: StoredValues = { zeros: new Map(), groupSizes: new Map() }

/** The tensors of a checkpoint by name, with checks whose errors name the tensor and its file. */
export class TensorTable {
  constructor(
    readonly files: readonly string[],
    readonly tensors: ReadonlyMap<string, TensorRef>,
    readonly unsupported: ReadonlyMap<string, UnsupportedTensor>,
    readonly values: StoredValues = noStoredValues,
  ) {}

  /** The same table with the scanned values. */
  with(values: StoredValues): TensorTable {
    return new TensorTable(this.files, this.tensors, this.unsupported, values)
  }

  has(name: string): boolean {
    return this.tensors.has(name) || this.unsupported.has(name)
  }

  /** `"model.norm.weight" (F16 [128] in model.safetensors)` */
  describe(tensor: UnsupportedTensor): string {
    const file = basename(this.files[tensor.file] ?? 'an unknown file')
    return `${quoted(tensor.name)} (${tensor.dtype} [${tensor.shape.join(', ')}] in ${file})`
  }

  /**
   * The tensor, or undefined if the checkpoint has none of that name.
   *
   * @throws BillfishError INVALID_CHECKPOINT if its dtype is not one of `types`
   */
  find(name: string, types: readonly TensorType[]): TensorRef | undefined {
    const tensor = this.tensors.get(name)
    if (tensor !== undefined && types.includes(tensor.dtype)) return tensor
    const other = tensor ?? this.unsupported.get(name)
    if (other === undefined) return undefined
    throw invalidCheckpoint(`Tensor ${this.describe(other)} has type ${other.dtype}; expected ${types.join(' or ')}`)
  }

  /** @throws BillfishError INVALID_CHECKPOINT if the tensor is missing or has another dtype */
  require(name: string, types: readonly TensorType[]): TensorRef {
    const tensor = this.find(name, types)
    if (tensor === undefined) throw invalidCheckpoint(`${this.missing(name)}; download the checkpoint again`)
    return tensor
  }

  /**
   * @param reason what needs the shape, for the error message
   * @throws BillfishError INVALID_CHECKPOINT if the tensor has another shape
   */
  checkShape(tensor: TensorRef, shape: readonly number[], reason: string): void {
    if (sameShape(tensor.shape, shape)) return
    throw invalidCheckpoint(
      `Tensor ${this.describe(tensor)} does not have the shape [${shape.join(', ')}] required by ${reason}; ` +
        'config and tensors do not match',
    )
  }

  /** `Tensor "a.weight" is missing from the 3 files of /models/a`, and which tensors the module has. */
  missing(name: string): string {
    const module = name.slice(0, name.lastIndexOf('.') + 1)
    const all = [...this.tensors.keys(), ...this.unsupported.keys()]
    const besides = module === '' ? [] : all.filter((other) => other.startsWith(module))
    const have =
      besides.length === 0 ? '' : `; ${quoted(module.slice(0, -1))} has ${besides.slice(0, 6).map(quoted).join(', ')}`
    const files = this.files.length === 1 ? this.files[0] : `the ${this.files.length} files next to ${this.files[0]}`
    return `Tensor ${quoted(name)} is missing from ${files}${have}`
  }
}
