/** Answers of random tokens that a grammar allows, over a made-up vocabulary. */
import { Random } from '../support/random.cjs'

const PIECES = [
  ...['{"', '":', '": "', '", "', '":"', '"}', '"]', '}}', ']}', '{}', '[]', '},', '],', '{\n  "', ' "', ',\n', '\n  '],
  ...['  ', ', ', 'true', 'false', 'null', 'tr', '00', '10', '12', '-1', '.5', '1.', 'e+', 'E1', '\\n', '\\u00', '\\"'],
  ...['\\\\', '"\\', 'name', 'age', 'kind', 'value', 'items', 'abc', 'hello', ' world', 'é', 'ü', '北京', '🐟'],
  ...['2026-', '-11', 'T10:', '.com'],
]
const LETTERS = 'etaoinshrdlucmfwypvbgkjqxzETAOIN'

/** All bytes, pieces of JSON and random words; the last token ends an answer. */
export class TestVocabulary {
  /** @param {number} size */
  constructor(size, { leadingSpacesToStrip = 0, seed = 1 } = {}) {
    const random = new Random(seed)
    const texts = new Set(PIECES)
    while (texts.size < size - 257) {
      const word = Array.from({ length: 2 + random.below(8) }, () => LETTERS[random.below(LETTERS.length)]).join('')
      const around = random.next()
      if (around < 0.45) texts.add(` ${word}`)
      else if (around < 0.5) texts.add(`${word}"`)
      else if (around < 0.53) texts.add(`${word}",`)
      else if (around < 0.55) texts.add(`"${word}`)
      else texts.add(word)
    }
    const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte))
    /** @type {Uint8Array[]} */
    this.tokens = [...bytes, ...[...texts].map((text) => Buffer.from(text)), Buffer.from('<|end|>')]
    this.endToken = this.tokens.length - 1
    this.specialIds = new Set([this.endToken])
    this.leadingSpacesToStrip = leadingSpacesToStrip
  }

  /** @param {number} id */
  idToBytes(id) {
    return this.tokens[id]
  }

  /** Whether a byte, which is the token of its number, may come. @param {Uint32Array} allowed @param {string} byte */
  allows(allowed, byte) {
    return isAllowed(allowed, byte.charCodeAt(0))
  }
}

/** @param {Uint32Array} allowed @param {number} token */
export function isAllowed(allowed, token) {
  return ((allowed[token >>> 5] >>> (token & 31)) & 1) === 1
}

/**
 * Writes an answer; after `patience` tokens, of what leads to its end.
 * @param {TestVocabulary} vocabulary
 * @param {import('../../src/native/grammar').NativeMatcher} matcher
 * @param {Random} random
 * @returns its text, whether it ended by itself within `most` tokens, and the milliseconds that each mask took
 */
export function randomAnswer(vocabulary, matcher, random, { patience = 60, most = 600 } = {}) {
  /** @type {Uint8Array[]} */
  const parts = []
  /** @type {number[]} */
  const masks = []
  const answer = (isComplete) => ({ text: Buffer.concat(parts).toString(), isComplete, masks })
  for (let step = 0; step < most; step++) {
    const begun = performance.now()
    const allowed = matcher.allowed()
    masks.push(performance.now() - begun)
    const token = chooseToken(vocabulary, allowed, random, step > patience)
    if (token === undefined) throw new Error(`nothing may follow ${answer(false).text}: ${matcher.failure()}`)
    if (token === vocabulary.endToken) return answer(true)
    const state = matcher.accept(token)
    if (state === 0) throw new Error(`token ${token} is allowed after ${answer(false).text}, and refused`)
    parts.push(vocabulary.tokens[token])
    if (state === 2) return answer(true)
  }
  return answer(false)
}

/** @param {TestVocabulary} vocabulary @param {Uint32Array} allowed @param {Random} random @param {boolean} hurries */
function chooseToken(vocabulary, allowed, random, hurries) {
  if (isAllowed(allowed, vocabulary.endToken) && (hurries || random.chance(0.5))) return vocabulary.endToken
  if (hurries || random.chance(0.25)) {
    // Inside a string its quote, elsewhere a bracket.
    const ends = vocabulary.allows(allowed, 'x') && vocabulary.allows(allowed, '"') ? ['"'] : ['}', ']']
    const end = ends.find((byte) => vocabulary.allows(allowed, byte))
    if (end !== undefined) return end.charCodeAt(0)
  }
  /** @type {number[]} */
  const tokens = []
  for (const [i, word] of allowed.entries()) {
    for (let bits = word; bits !== 0; bits &= bits - 1) tokens.push(i * 32 + 31 - Math.clz32(bits & -bits))
  }
  return tokens.length === 0 ? undefined : random.pick(tokens)
}
