import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { BillfishError } from '../common/errors'

/**
 * How a vocabulary spells bytes. Every supported decoder of tokenizer.json is a function of single tokens, followed at
 * most by stripping leading spaces, which makes exact streaming possible.
 */
export interface TokenSpelling {
  /** Bytes of a token. Added tokens (`<|im_end|>`) of a byte-level vocabulary are plain text. */
  bytesOf(token: string, added: boolean): Uint8Array
  readonly leadingSpacesToStrip: number
}

const utf8 = new TextEncoder()

/**
 * Byte-level alphabet of GPT-2: printable Latin-1 characters stand for their own byte, and the remaining bytes, in
 * order, are U+0100, U+0101, ...
 */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const bytes = new Map<string, number>()
  let shifted = 0x100
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    bytes.set(String.fromCodePoint(printable ? byte : shifted++), byte)
  }
  return bytes
})()

function byteLevelBytes(token: string): Uint8Array {
  const bytes: number[] = []
  for (const character of token) {
    const byte = BYTE_OF_CHARACTER.get(character)
    // Not byte-level spelling: the token stands for itself.
    if (byte === undefined) return utf8.encode(token)
    bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}

/** Decoders in use have fewer than six steps. */
const MAX_STEPS = 32
/** Maximum expansion of a token; more is not a spelling. */
const MAX_GROWTH = 16
const MAX_STRIPPED_SPACES = 64
const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/

/**
 * Reads the `decoder` of a tokenizer.json: ByteLevel, Metaspace, or a sequence of ByteLevel, Metaspace, Replace (of a
 * string), ByteFallback, Fuse and Strip (at the start), which covers all supported model families.
 * @throws BillfishError INVALID_CHECKPOINT for any other decoder
 */
export function tokenSpelling(decoder: unknown, path: string): TokenSpelling {
  let byteLevel = false
  let byteFallback = false
  let leadingSpacesToStrip = 0
  const replacements: { from: string; to: string }[] = []
  let steps = 0
  let growth = 1

  const replace = (from: string, to: string): void => {
    growth *= Math.max(1, from === '' ? 1 + to.length : to.length / from.length)
    if (growth > MAX_GROWTH) {
      throw invalidCheckpoint(`${path}: the decoder expands tokens more than ${MAX_GROWTH} times`)
    }
    replacements.push({ from, to })
  }
  const read = (step: unknown): void => {
    if (!isObject(step)) throw unsupported(step, path)
    if (++steps > MAX_STEPS) throw invalidCheckpoint(`${path}: the decoder has more than ${MAX_STEPS} steps`)
    switch (step.type) {
      case 'Sequence':
        if (!Array.isArray(step.decoders)) throw unsupported(step, path)
        step.decoders.forEach(read)
        return
      case 'ByteLevel':
        byteLevel = true
        return
      case 'ByteFallback':
        byteFallback = true
        return
      case 'Fuse':
        return
      case 'Metaspace':
        replace(typeof step.replacement === 'string' ? step.replacement : '\u2581', ' ')
        if (step.prepend_scheme !== 'never') leadingSpacesToStrip = 1
        return
      case 'Replace': {
        const from = isObject(step.pattern) ? step.pattern.String : undefined
        if (typeof from !== 'string' || typeof step.content !== 'string') throw unsupported(step, path)
        replace(from, step.content)
        return
      }
      case 'Strip':
        if (step.content !== ' ' || !isCount(step.start) || step.stop !== 0) throw unsupported(step, path)
        leadingSpacesToStrip = step.start
        return
      default:
        throw unsupported(step, path)
    }
  }
  read(decoder)

  if (byteLevel) {
    return { leadingSpacesToStrip, bytesOf: (token, added) => (added ? utf8.encode(token) : byteLevelBytes(token)) }
  }
  return {
    leadingSpacesToStrip,
    bytesOf(token) {
      const byte = byteFallback ? BYTE_TOKEN.exec(token)?.[1] : undefined
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16))
      let text = token
      for (const { from, to } of replacements) text = text.replaceAll(from, () => to)
      return utf8.encode(text)
    },
  }
}

function isCount(spaces: unknown): spaces is number {
  return Number.isInteger(spaces) && (spaces as number) >= 0 && (spaces as number) <= MAX_STRIPPED_SPACES
}

function unsupported(step: unknown, path: string): BillfishError {
  return invalidCheckpoint(
    `${path}: cannot stream the decoder ${shown(step)}; ` +
      'supported are ByteLevel, Metaspace, and sequences of these with Replace, ByteFallback, Fuse and a leading Strip',
  )
}
