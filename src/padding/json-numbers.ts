/**
 * Changes numbers in a JSON text and leaves all the rest of it as it is, byte for byte: parsing and printing would turn
 * 1000000.0 into 1000000 and lose digits of large integers.
 */
import { findNodeAtLocation, parseTree } from 'jsonc-parser'

/** A number that may be in the text, under a path of keys, and what becomes of it. */
export interface NumberChange {
  readonly path: readonly string[]
  readonly change: (before: number) => number
}

/**
 * @param text - JSON, also with Python's NaN and Infinity
 * @returns the text with the new numbers; a path that leads to no number changes nothing
 */
export function changeNumbers(text: string, changes: readonly NumberChange[]): string {
  const root = parseTree(text)
  if (root === undefined) return text
  const edits = changes.flatMap(({ path, change }) => {
    const node = findNodeAtLocation(root, [...path])
    return node?.type === 'number' ? [{ node, value: change(node.value) }] : []
  })
  edits.sort((a, b) => b.node.offset - a.node.offset) // from the end, so that the offsets before an edit stay valid
  return edits.reduce(
    (result, { node: { offset, length }, value }) =>
      `${result.slice(0, offset)}${value}${result.slice(offset + length)}`,
    text,
  )
}
