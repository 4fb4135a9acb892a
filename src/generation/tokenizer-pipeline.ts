import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { BillfishError } from '../common/errors'
import { isLinearTimePattern } from './linear-time-patterns'
import type { AddedToken, TokenizerJson } from './vocabulary'

/** Properties of the text processing in a tokenizer.json, determined by static analysis. */
export interface Pipeline {
  /** Maximum expansion: characters (byte-level: bytes) per character of the text. */
  readonly growth: number
  /**
   * Whether every part is known to run in linear time on any text: the condition for encoding short texts on the event
   * loop.
   */
  readonly linear: boolean
}

/** Released tokenizers have fewer than ten. */
const MAX_PARTS = 32
/** The longest pattern in use has 2000 characters; compiling one of this length takes seconds at worst. */
const MAX_PATTERN_LENGTH = 4096
/** Also limits compile time. */
const MAX_PATTERNS = 16
/** Limit on the event loop, where 4 KiB must take a few milliseconds. */
const MAX_LINEAR_GROWTH = 4
/** Limit on the event loop: every text position is looked up in the added tokens up to this length. */
const MAX_LINEAR_TOKEN_LENGTH = 64
const MAX_LINEAR_ADDED_TOKENS = 16_384
/** Limit on the event loop of strings added to each word. */
const MAX_LINEAR_AFFIX_LENGTH = 8
/** Items of a template: `<s>`, the text, `</s>`. */
const MAX_TEMPLATE_ITEMS = 32

/**
 * Analyzes normalizer, pre-tokenizer, added tokens and post-processor of a tokenizer.json.
 * @throws BillfishError INVALID_CHECKPOINT for parts that could expand a text excessively, never terminate, or are
 *   expensive to set up
 */
export function analyzePipeline(json: TokenizerJson, path: string): Pipeline {
  return new Analysis(path).analyze(json)
}

const LINEAR: Pipeline = { growth: 1, linear: true }
const OTHER: Pipeline = { growth: 1, linear: false }

class Analysis {
  #parts = 0
  #patterns = 0
  #byteLevels = 0

  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  analyze(json: TokenizerJson): Pipeline {
    const pipelines = [
      this.#normalizer(json.normalizer),
      this.#preTokenizer(json.pre_tokenizer),
      this.#model(json.model),
      addedTokens(json.added_tokens),
      this.#postProcessor(json.post_processor),
    ]
    const { growth, linear } = compose(pipelines)
    return { growth, linear: linear && growth <= MAX_LINEAR_GROWTH }
  }

  #normalizer(part: unknown): Pipeline {
    if (part === null || part === undefined) return LINEAR
    switch (this.#typeOf(part, 'normalizer')) {
      case 'Sequence':
        return compose(this.#list(part, 'normalizers').map((inner) => this.#normalizer(inner)))
      case 'NFC': // at worst three times as long, and idempotent
      case 'NFD':
      case 'NFKC':
      case 'NFKD':
      case 'Strip':
      case 'StripAccents':
        return LINEAR
      case 'Lowercase':
        return { growth: 2, linear: true } // the Turkish capital I with a dot
      case 'Prepend': {
        const prefix = this.#string(part, 'prepend')
        return { growth: 1 + prefix.length, linear: prefix.length <= MAX_LINEAR_AFFIX_LENGTH }
      }
      case 'Replace':
        return this.#replace(part)
      default:
        return { growth: 3, linear: false } // BertNormalizer puts spaces around Chinese characters
    }
  }

  #preTokenizer(part: unknown): Pipeline {
    if (part === null || part === undefined) return LINEAR
    switch (this.#typeOf(part, 'pre_tokenizer')) {
      case 'Sequence':
        return compose(this.#list(part, 'pretokenizers').map((inner) => this.#preTokenizer(inner)))
      case 'ByteLevel':
        // Text is counted in bytes; a second ByteLevel spells them as two-byte characters.
        return { growth: this.#byteLevels++ === 0 ? 1 : 2, linear: true }
      case 'Metaspace': {
        const spelled = String(
          (part as Record<string, unknown>).str_rep || (part as Record<string, unknown>).replacement || ' ',
        )
        return { growth: 1 + spelled.length, linear: spelled.length <= MAX_LINEAR_AFFIX_LENGTH }
      }
      case 'Split':
        return this.#split(part)
      case 'Replace':
        return { ...this.#replace(part), linear: false }
      case 'Whitespace':
      case 'WhitespaceSplit':
      case 'Punctuation':
      case 'Digits':
      case 'BertPreTokenizer':
        return LINEAR
      case 'FixedLength': {
        const { length } = part as { readonly length?: unknown }
        if (!Number.isInteger(length) || (length as number) < 1) {
          throw this.#invalid(`the pre_tokenizer FixedLength has the length ${shown(length)}, but it must be 1 or more`)
        }
        return OTHER
      }
      default:
        return OTHER
    }
  }

  #replace(part: unknown): Pipeline {
    const pattern = this.#pattern(part)
    const content = this.#string(part, 'content')
    // A regular expression may match a single character or the empty string.
    const least = pattern.kind === 'String' ? pattern.text.length : 0
    const growth = least === 0 ? 1 + content.length : Math.max(1, content.length / least)
    return { growth, linear: pattern.kind === 'String' && least > 0 && pattern.text.length <= MAX_LINEAR_TOKEN_LENGTH }
  }

  #split(part: unknown): Pipeline {
    const pattern = this.#pattern(part)
    if (pattern.kind === 'String') return { growth: 1, linear: pattern.text.length <= MAX_LINEAR_TOKEN_LENGTH }
    if (isLinearTimePattern(pattern.text)) return LINEAR
    // With behavior Removed, each match leaves the text of its groups.
    const { behavior } = part as { readonly behavior?: unknown }
    const removed = typeof behavior === 'string' && behavior.toLowerCase() === 'removed'
    return { growth: removed ? pattern.text.split('(').length : 1, linear: false }
  }

  #model(model: TokenizerJson['model']): Pipeline {
    const affix = (name: string) => (typeof model[name] === 'string' ? (model[name] as string).length : 0)
    const affixes = affix('end_of_word_suffix') + affix('continuing_subword_suffix')
    if (Array.isArray(model.vocab)) {
      // Unigram considers every token that starts at a position.
      const tokens = model.vocab as readonly (readonly [string, number])[]
      const longest = tokens.reduce((most, [token]) => Math.max(most, token.length), 1)
      if (model.byte_fallback === true) {
        throw this.#invalid('a Unigram model with byte_fallback is not supported: unknown characters would be lost')
      }
      return { growth: longest, linear: false }
    }
    if (model.type !== 'BPE') return { growth: 1 + affixes, linear: false }
    if (affix('continuing_subword_prefix') > 0) {
      throw this.#invalid(
        `a BPE model with the continuing_subword_prefix ${shown(model.continuing_subword_prefix)} is not supported: ` +
          'words would be split into different tokens',
      )
    }
    return { growth: 1 + affixes, linear: affixes <= MAX_LINEAR_AFFIX_LENGTH }
  }

  #postProcessor(part: unknown): Pipeline {
    if (part === null || part === undefined) return LINEAR
    switch (this.#typeOf(part, 'post_processor')) {
      case 'Sequence':
        return compose(this.#list(part, 'processors').map((inner) => this.#postProcessor(inner)))
      case 'TemplateProcessing':
        return this.#template(part)
      case 'BertProcessing':
      case 'RobertaProcessing':
        for (const name of ['cls', 'sep']) {
          const token = (part as Record<string, unknown>)[name]
          if (!Array.isArray(token) || typeof token[0] !== 'string') {
            throw this.#invalid(`the post_processor's ${name} is ${shown(token)}, but it must be a token and its id`)
          }
        }
        return LINEAR
      case 'ByteLevel':
        return LINEAR
      default:
        return OTHER
    }
  }

  #template(part: unknown): Pipeline {
    const items = this.#list(part, 'single')
    let sequences = 0
    for (const item of items) {
      const sequence = isObject(item) ? item.Sequence : undefined
      const token = isObject(item) ? item.SpecialToken : undefined
      if (isObject(sequence) && sequence.id === 'A') sequences++
      else if (!isObject(token) || typeof token.id !== 'string') {
        throw this.#invalid(
          `the post_processor's template has the item ${shown(item)}, which is neither a token nor the text`,
        )
      }
    }
    if (items.length > MAX_TEMPLATE_ITEMS || sequences !== 1) {
      throw this.#invalid(
        `the post_processor's template has ${items.length} items, the text ${sequences} times; ` +
          `at most ${MAX_TEMPLATE_ITEMS} items and the text once can be read`,
      )
    }
    return LINEAR
  }

  #typeOf(part: unknown, where: string): unknown {
    if (!isObject(part)) throw this.#invalid(`its ${where} has the part ${shown(part)}, which must be an object`)
    if (++this.#parts > MAX_PARTS) throw this.#invalid(`it has more than ${MAX_PARTS} text-processing parts`)
    return part.type
  }

  #list(part: unknown, name: string): readonly unknown[] {
    const list = (part as Record<string, unknown>)[name]
    if (!Array.isArray(list)) throw this.#invalid(`${name} must be an array, but is ${shown(list)}`)
    return list
  }

  #string(part: unknown, name: string): string {
    const text = (part as Record<string, unknown>)[name]
    if (typeof text !== 'string') throw this.#invalid(`${name} of ${shown(part)} must be a string`)
    return text
  }

  #pattern(part: unknown): { readonly kind: 'String' | 'Regex'; readonly text: string } {
    const { pattern } = part as { readonly pattern?: unknown }
    const kind = isObject(pattern) && pattern.Regex !== undefined ? 'Regex' : 'String'
    const text = isObject(pattern) ? pattern[kind] : undefined
    if (typeof text !== 'string') throw this.#invalid(`${shown(part)} must have a pattern, { String } or { Regex }`)
    if (text.length > MAX_PATTERN_LENGTH || ++this.#patterns > MAX_PATTERNS) {
      throw this.#invalid(
        text.length > MAX_PATTERN_LENGTH
          ? `a pattern of ${text.length} characters; at most ${MAX_PATTERN_LENGTH} can be read`
          : `more than ${MAX_PATTERNS} patterns`,
      )
    }
    return { kind, text }
  }

  #invalid(what: string): BillfishError {
    return invalidCheckpoint(`${this.#path}: ${what}`)
  }
}

function addedTokens(tokens: readonly AddedToken[]): Pipeline {
  const short = tokens.every(({ content }) => content.length <= MAX_LINEAR_TOKEN_LENGTH)
  return { growth: 1, linear: short && tokens.length <= MAX_LINEAR_ADDED_TOKENS }
}

function compose(pipelines: readonly Pipeline[]): Pipeline {
  return {
    growth: pipelines.reduce((product, { growth }) => product * growth, 1),
    linear: pipelines.every(({ linear }) => linear),
  }
}
