import { Grammars } from '../../src/chat/structured/grammars'
import type { StructuredOutput } from '../../src/chat/structured/spec'
import { matched } from '../../src/native/grammar'

/** Numbers in [0, 1) from a seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const PIECES = [
  ...[
    '{"',
    '":',
    '": "',
    '", "',
    '":"',
    '"}',
    '"]',
    '}}',
    ']}',
    '{}',
    '[]',
    '},',
    '],',
    '{\n  "',
    ' "',
    ',\n',
    '\n  ',
    '  ',
    ', ',
  ],
  ...[
    'true',
    'false',
    'null',
    'tr',
    '0',
    '00',
    '10',
    '12',
    '-1',
    '.5',
    '1.',
    'e+',
    'E1',
    '\\n',
    '\\u00',
    '\\"',
    '\\\\',
    '"\\',
  ],
  ...[
    'name',
    'age',
    'kind',
    'value',
    'items',
    'a',
    'b',
    'abc',
    'hello',
    ' world',
    'é',
    'ü',
    '北京',
    '🐟',
    '2026-',
    '-11',
    'T10:',
    '@',
    '.com',
  ],
]

/** A vocabulary of all bytes, of pieces of JSON and of random words; the last token ends an answer. */
export class TestVocabulary {
  readonly tokens: Uint8Array[]
  readonly endToken: number
  readonly specialIds: ReadonlySet<number>
  readonly leadingSpacesToStrip: number

  constructor(size: number, { leadingSpacesToStrip = 0, seed = 1 } = {}) {
    const random = randomNumbers(seed)
    const letters = 'etaoinshrdlucmfwypvbgkjqxzETAOIN'
    const texts = new Set(PIECES)
    while (texts.size < size - 257) {
      const length = 2 + Math.floor(random() * 8)
      const word = Array.from({ length }, () => letters[Math.floor(random() * letters.length)]).join('')
      const around = random()
      texts.add(
        around < 0.45
          ? ` ${word}`
          : around < 0.5
            ? `${word}"`
            : around < 0.53
              ? `${word}",`
              : around < 0.55
                ? `"${word}`
                : word,
      )
    }
    this.tokens = [
      ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
      ...[...texts].map((text) => Buffer.from(text)),
    ]
    this.endToken = this.tokens.length
    this.tokens.push(Buffer.from('<|end|>'))
    this.specialIds = new Set([this.endToken])
    this.leadingSpacesToStrip = leadingSpacesToStrip
  }

  idToBytes(id: number): Uint8Array | undefined {
    return this.tokens[id]
  }

  grammars(): Grammars {
    return new Grammars(this, this.tokens.length)
  }
}

export interface RandomAnswer {
  readonly text: string
  /** Whether it ended by itself within the tokens it was given. */
  readonly isComplete: boolean
  /** Milliseconds that each mask took. */
  readonly masks: readonly number[]
}

/** Writes an answer of allowed tokens, chosen at random; after `patience` tokens of those that lead to its end. */
export async function randomAnswer(
  vocabulary: TestVocabulary,
  grammars: Grammars,
  form: StructuredOutput,
  random: () => number,
  { patience = 60, most = 600 } = {},
): Promise<RandomAnswer> {
  const matcher = await grammars.matcher(form, [vocabulary.endToken])
  const parts: Uint8Array[] = []
  const masks: number[] = []
  const text = () => Buffer.concat(parts).toString()
  for (let step = 0; step < most; step++) {
    const begun = performance.now()
    const allowed = matcher.allowed()
    masks.push(performance.now() - begun)
    const tokens = allowedTokens(allowed)
    if (tokens.length === 0) throw new Error(`no token may follow ${text()}: ${matcher.failure()}`)
    const token = chooseToken(vocabulary, tokens, random, step > patience)
    if (token === vocabulary.endToken) return { text: text(), isComplete: true, masks }
    const state = matcher.accept(token)
    if (state === matched.refused) throw new Error(`token ${token} is allowed after ${text()}, and refused`)
    parts.push(vocabulary.tokens[token] as Uint8Array)
    if (state === matched.finished) return { text: text(), isComplete: true, masks }
  }
  return { text: text(), isComplete: false, masks }
}

export function allowedTokens(mask: Uint32Array): number[] {
  const tokens: number[] = []
  for (const [i, word] of mask.entries()) {
    for (let bits = word; bits !== 0; bits &= bits - 1) tokens.push(i * 32 + 31 - Math.clz32(bits & -bits))
  }
  return tokens
}

const textOf = ({ tokens }: TestVocabulary, token: number) => Buffer.from(tokens[token] as Uint8Array).toString()

/** What leads to an end: inside a string its quote, elsewhere a bracket. */
function closingToken(vocabulary: TestVocabulary, allowed: readonly number[]): number | undefined {
  const single = new Map(allowed.map((token) => [textOf(vocabulary, token), token]))
  return single.has('x') && single.has('"') ? single.get('"') : (single.get('}') ?? single.get(']'))
}

function chooseToken(
  vocabulary: TestVocabulary,
  allowed: readonly number[],
  random: () => number,
  hurries: boolean,
): number {
  const { endToken } = vocabulary
  if (allowed.includes(endToken) && (hurries || random() < 0.5)) return endToken
  const closing = hurries || random() < 0.25 ? closingToken(vocabulary, allowed) : undefined
  return closing ?? (allowed[Math.floor(random() * allowed.length)] as number)
}
