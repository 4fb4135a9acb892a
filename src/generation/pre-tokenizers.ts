import { isObject } from '../checkpoint/json'

/** A pre-tokenizer of the library. */
interface PreTokenizer {
  /** Members of a sequence. */
  readonly tokenizers?: readonly (PreTokenizer | null)[]
  readonly pattern?: RegExp | null
  pre_tokenize_text(text: string, options?: { readonly section_index?: number }): string[]
}

type Split = PreTokenizer['pre_tokenize_text']
type Part = Readonly<Record<string, unknown>>

/** Punctuation in Rust: Unicode and ASCII. */
const PUNCTUATION = '\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E'
/** `\w` in Rust regular expressions. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}'
const BYTE_LEVEL =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu

/**
 * Patches pre-tokenizers of the library to match the Rust tokenizers. The library supports one behavior of Split and
 * Punctuation, uses JavaScript classes for words, digits and spaces, and never splits at a Metaspace.
 * @param part the part of tokenizer.json that the pre-tokenizer was made from
 */
export function patchPreTokenizers(preTokenizer: unknown, part: unknown): void {
  if (!preTokenizer || !isObject(part)) return
  const made = preTokenizer as PreTokenizer
  if (part.type === 'Sequence') {
    const parts = part.pretokenizers as readonly unknown[]
    made.tokenizers?.forEach((inner, index) => {
      patchPreTokenizers(inner, parts[index])
    })
  } else if (part.type === 'ByteLevel') {
    Object.assign(made, { pattern: BYTE_LEVEL })
  } else {
    const split = splitOf(made, part)
    if (split) made.pre_tokenize_text = split
  }
}

/** Undefined if the library is right. */
function splitOf({ pattern, pre_tokenize_text }: PreTokenizer, part: Part): Split | undefined {
  const behavior = String(part.behavior ?? 'isolated').toLowerCase()
  switch (part.type) {
    case 'Split': {
      const inverted = part.invert === true
      if (!pattern || (behavior === 'isolated' && !inverted)) return undefined
      return (text) => joined(matches(text, pattern, inverted), behavior)
    }
    case 'Punctuation':
      return splitAt(`[${PUNCTUATION}]`, behavior)
    case 'Digits':
      return splitAt('\\p{N}', part.individual_digits === true ? 'isolated' : 'contiguous')
    case 'Metaspace':
      return metaspace(pre_tokenize_text, part)
    case 'Whitespace':
      return pieces(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`)
    case 'WhitespaceSplit':
      return pieces('\\P{White_Space}+')
    case 'BertPreTokenizer':
      return pieces(`[^\\p{White_Space}${PUNCTUATION}]+|[${PUNCTUATION}]`)
    case 'FixedLength':
      return pieces(`[^]{1,${part.length}}`)
    default:
      return undefined
  }
}

function pieces(source: string): Split {
  const pattern = new RegExp(source, 'gu')
  return (text) => text.match(pattern) ?? []
}

function splitAt(source: string, behavior: string): Split {
  const pattern = new RegExp(source, 'gu')
  return (text) => joined(matches(text, pattern, false), behavior)
}

/** Splits before each replaced space. */
function metaspace(replaced: Split, part: Part): Split | undefined {
  if (part.split === false) return undefined
  const replacement = typeof part.replacement === 'string' ? part.replacement : '▁'
  return function (this: unknown, text, options) {
    return replaced.call(this, text, options).flatMap((whole) => startingWith(replacement, whole))
  }
}

function startingWith(start: string, text: string): string[] {
  const parts: string[] = []
  let from = 0
  while (start !== '' && from < text.length) {
    const next = text.indexOf(start, from + (text.startsWith(start, from) ? start.length : 0))
    if (next < 0) break
    parts.push(text.slice(from, next))
    from = next
  }
  if (from < text.length) parts.push(text.slice(from))
  return parts
}

interface Piece {
  start: number
  end: number
  readonly text: string
  readonly isMatch: boolean
}

/** Splits a text into matches and the text between them. */
function matches(text: string, pattern: RegExp, inverted: boolean): Piece[] {
  const found: Piece[] = []
  const add = (start: number, end: number, isMatch: boolean) => {
    if (end > start) found.push({ start, end, text, isMatch: isMatch !== inverted })
  }
  let end = 0
  for (const match of text.matchAll(pattern)) {
    add(end, match.index, false)
    end = match.index + match[0].length
    add(match.index, end, true)
  }
  add(end, text.length, false)
  return found
}

/** Applies a split behavior to the matches. */
function joined(found: readonly Piece[], behavior: string): string[] {
  switch (behavior) {
    case 'removed':
      return texts(found.filter(({ isMatch }) => !isMatch))
    case 'mergedwithprevious':
      return texts(merged(found, (piece, before) => piece.isMatch && !before))
    case 'mergedwithnext':
      return texts(merged([...found].reverse(), (piece, before) => piece.isMatch && !before)).reverse()
    case 'contiguous':
      return texts(merged(found, (piece, before) => piece.isMatch === before))
    default:
      return texts(found)
  }
}

/** Merges each piece into the previous one if `joins` says so; `before` tells whether that one is a match. */
function merged(found: readonly Piece[], joins: (piece: Piece, before: boolean) => boolean): Piece[] {
  const result: Piece[] = []
  let before = false
  for (const piece of found) {
    const last = result.at(-1)
    if (last && joins(piece, before)) {
      last.start = Math.min(last.start, piece.start)
      last.end = Math.max(last.end, piece.end)
    } else {
      result.push({ ...piece })
    }
    before = piece.isMatch
  }
  return result
}

function texts(found: readonly Piece[]): string[] {
  return found.map(({ text, start, end }) => text.slice(start, end))
}
