/** Whole numbers that are divided into parts: words, groups, blocks, tiles. */

/** How many parts of `size` hold `count`; the last one may be partly filled. */
export function ceilDiv(count: number, size: number): number {
  return Math.ceil(count / size)
}

/** The least multiple of a number that is not below `value`. */
export function roundUp(value: number, multiple: number): number {
  return ceilDiv(value, multiple) * multiple
}

/** The elements of a tensor of this shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((sizes, size) => sizes * size, 1)
}
