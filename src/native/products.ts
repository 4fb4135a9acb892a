/** Scales and zero points: a weight is scale * (code - zero point). */
interface CodeGrid {
  /** [outputs, groups] for multiplyRows, [groups, outputs] for addColumns; `zeros` too. */
  readonly scales: Float32Array
  readonly zeros: Uint8Array
  /** The group of every input. */
  readonly groupOf: Int32Array
}

/** y = rows of stored numbers times x, in fp64: binding/padding/products.h says in which order they are added. */
export interface FloatProduct {
  readonly values: Uint8Array
  readonly type: 'F32' | 'F16' | 'BF16'
  readonly x: Float64Array
  readonly leading: number
  readonly y: Float64Array
}

/** The same for codes as compressed-tensors packs them. */
export interface RowProduct extends CodeGrid {
  readonly codes: Int32Array
  readonly bits: 4 | 8
  readonly x: Float64Array
  readonly leading: number
  readonly y: Float64Array
}

/** y += the inputs that are here, for codes as GPTQ or AWQ packs them. */
export interface ColumnProduct extends CodeGrid {
  readonly codes: Int32Array
  readonly order: 'gptq' | 'awq'
  readonly bits: 4 | 8
  readonly x: Float64Array
  /** For AWQ, outputs (of scales and zero points, too) are in the order [8 places in a word, words of a row]. */
  readonly y: Float64Array
}
