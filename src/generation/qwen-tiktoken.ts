import { join } from 'node:path'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { bytePairMerge } from './byte-pair-merge'
import { decodeTokens } from './detokenizer'
import { MAX_TEXT_BYTES } from './long-text'
import { forEachLine, type LineLimits } from './text-file'
import type { EncodingTokenizer, SpecialTokenTexts } from './types'

export const QWEN_TIKTOKEN_FILE = 'qwen.tiktoken'
/** The released file has 151,643 lines in 2.6 MB. */
const LIMITS: LineLimits = { bytes: 16 * 1024 * 1024, lines: 1 << 19, length: 4096 }

/** Ids after the ranks: these, then `<|extra_0|>` to `<|extra_204|>`; 151643 and up with the released ranks. */
const SPECIALS: readonly string[] = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  ...Array.from({ length: 205 }, (_, index) => `<|extra_${index}|>`),
]
const SPECIAL = new RegExp(`(${SPECIALS.join(' ').replaceAll('|', '\\|').replaceAll(' ', '|')})`)

/** The chat format these models were trained on; their releases have it in code, not as a template. */
const CHATML =
  "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}" +
  "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

/**
 * A piece: contraction suffix, word with the preceding character, one digit, punctuation, line breaks, or spaces. `ſ`
 * also matches a case-insensitive `s`, and \p{White_Space} is what \s means outside JavaScript.
 */
const PIECE = new RegExp(
  [
    "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])",
    '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+',
    '\\p{N}',
    ' ?[^\\p{White_Space}\\p{L}\\p{N}]+[\\r\\n]*',
    '\\p{White_Space}*[\\r\\n]+',
    '\\p{White_Space}+(?!\\P{White_Space})',
    '\\p{White_Space}+',
  ].join('|'),
  'gu',
)

/**
 * Loads `qwen.tiktoken`, the vocabulary of Qwen v1: one base64 token and its rank per line.
 * @returns undefined if there is no such file
 * @throws BillfishError INVALID_CHECKPOINT naming the line if it is malformed
 */
export async function loadQwenTiktoken(directory: string): Promise<EncodingTokenizer | undefined> {
  const path = join(directory, QWEN_TIKTOKEN_FILE)
  const ranks = await readRanks(path)
  return ranks === undefined ? undefined : new QwenTokenizer(ranks, path)
}

/** Byte strings (one character per byte) -> rank; undefined if there is no such file. */
async function readRanks(path: string): Promise<Map<string, number> | undefined> {
  const invalid = (what: string) => invalidCheckpoint(`${path}: ${what}`)
  const ranks = new Map<string, number>()
  const exists = await forEachLine(path, LIMITS, (line, number) => {
    if (line.trim() === '') return
    const match = /^([A-Za-z0-9+/]+={0,2}) (\d+)$/.exec(line)
    if (match === null) {
      throw invalid(`line ${number} is not a base64 token and a rank: ${JSON.stringify(line.slice(0, 80))}`)
    }
    const rank = Number(match[2])
    if (rank !== ranks.size) throw invalid(`line ${number} has the rank ${rank}, but ${ranks.size} comes next`)
    ranks.set(Buffer.from(match[1] as string, 'base64').toString('latin1'), rank)
    if (ranks.size !== rank + 1) throw invalid(`line ${number} repeats the token of rank ${ranks.size - 1} or below`)
  })
  if (!exists) return undefined
  for (let byte = 0; byte < 256; byte++) {
    if (!ranks.has(String.fromCharCode(byte))) {
      throw invalid(`no token for the single byte ${byte}, so not every text can be encoded`)
    }
  }
  return ranks
}

class QwenTokenizer implements EncodingTokenizer {
  readonly file: string
  readonly fileBytes = LIMITS.bytes
  readonly growth = 1
  readonly maxTextBytes = MAX_TEXT_BYTES
  readonly vocabularySize: number
  readonly specialIds: ReadonlySet<number>
  readonly specialTokens: SpecialTokenTexts = { eos: '<|endoftext|>', pad: '<|endoftext|>' }
  readonly leadingSpacesToStrip = 0
  readonly defaultChatTemplate = CHATML
  readonly #ranks: ReadonlyMap<string, number>
  /** Byte strings by id, special tokens last. */
  readonly #tokens: readonly string[]
  readonly #specials: ReadonlyMap<string, number>

  constructor(ranks: ReadonlyMap<string, number>, file: string) {
    this.file = file
    this.#ranks = ranks
    this.#specials = new Map(SPECIALS.map((name, index) => [name, ranks.size + index]))
    this.#tokens = [...ranks.keys(), ...SPECIALS]
    this.specialIds = new Set(this.#specials.values())
    this.vocabularySize = this.#tokens.length
  }

  /** This vocabulary adds nothing around a text, so `addSpecialTokens` has no effect. */
  encode(text: string): number[] {
    const ids: number[] = []
    for (const section of text.normalize('NFC').split(SPECIAL)) {
      const special = this.#specials.get(section)
      if (special !== undefined) {
        ids.push(special)
        continue
      }
      for (const [piece] of section.matchAll(PIECE)) {
        for (const id of bytePairMerge(Buffer.from(piece, 'utf8').toString('latin1'), this.#ranks)) ids.push(id)
      }
    }
    return ids
  }

  decode(ids: readonly number[], { skipSpecialTokens = false }: { readonly skipSpecialTokens?: boolean } = {}): string {
    return decodeTokens(this, ids, { skipSpecialTokens })
  }

  tokenToId(token: string): number | undefined {
    return this.#specials.get(token) ?? this.#ranks.get(Buffer.from(token, 'utf8').toString('latin1'))
  }

  /** The token as text; incomplete UTF-8 becomes U+FFFD. */
  idToToken(id: number): string | undefined {
    const token = this.#tokens[id]
    return token === undefined ? undefined : Buffer.from(token, 'latin1').toString('utf8')
  }

  idToBytes(id: number): Uint8Array | undefined {
    const token = this.#tokens[id]
    return token === undefined ? undefined : Uint8Array.from(token, (character) => character.charCodeAt(0))
  }
}
