import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import type { BillfishError } from '../errors'
import { isLinearTimePattern } from './linear-time-patterns'
import type { AddedToken, TokenizerJson } from './vocabulary'

/** What a tokenizer.json does to a text before and after its model, judged by reading it. */
export interface Pipeline {
  /** How many characters (for byte-level parts: bytes) one of the text may become, at most. */
  readonly growth: number
  /**
   * Whether every part is of a known kind that takes time in proportion to the text, whatever the text: only then may
   * a short text be encoded on the event loop.
   */
  readonly linear: boolean
}

/** No released tokenizer has ten. */
const MAX_PARTS = 32
/** The longest pattern in use has 2000; compiling one of this length takes seconds at the worst. */
const MAX_PATTERN_LENGTH = 4096
/** Compiling is what counts here, too. */
const MAX_PATTERNS = 16
/** Of a pipeline that may run on the event loop: 4 KiB then stay within a few milliseconds. */
const MAX_LINEAR_GROWTH = 4
/** Each position of a text is looked up in the added tokens up to the longest of these. */
const MAX_LINEAR_TOKEN_LENGTH = 64
const MAX_LINEAR_ADDED_TOKENS = 16_384
/** Strings that are put before or after each word. */
const MAX_LINEAR_AFFIX_LENGTH = 8
/** Items of a template around a text: `<s>`, the text, `</s>`. */
const MAX_TEMPLATE_ITEMS = 32

/**
 * Reads through normalizer, pre-tokenizer, added tokens and post-processor of a tokenizer.json.
 * @throws BillfishError INVALID_CHECKPOINT for what could blow a text up, never ends, or takes long to set up
 */
export function analyzePipeline(json: TokenizerJson, path: string): Pipeline {
  return new Examination(path).examine(json)
}

const LINEAR: Pipeline = { growth: 1, linear: true }
const OTHER: Pipeline = { growth: 1, linear: false }

class Examination {
  #parts = 0
  #patterns = 0
  #byteLevels = 0

  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  examine(json: TokenizerJson): Pipeline {
    const pipelines = [
      this.#normalizer(json.normalizer),
      this.#preTokenizer(json.pre_tokenizer),
      this.#model(json.model),
      addedTokens(json.added_tokens),
      this.#postProcessor(json.post_processor),
    ]
    const { growth, linear } = inTurn(pipelines)
    return { growth, linear: linear && growth <= MAX_LINEAR_GROWTH }
  }

  #normalizer(part: unknown): Pipeline {
    if (part === null || part === undefined) return LINEAR
    switch (this.#typeOf(part, 'normalizer')) {
      case 'Sequence':
        return inTurn(this.#list(part, 'normalizers').map((inner) => this.#normalizer(inner)))
      case 'NFC': // at the worst three times as long, and once: what is normalized already stays as it is
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
        return inTurn(this.#list(part, 'pretokenizers').map((inner) => this.#preTokenizer(inner)))
      case 'ByteLevel':
        // Bytes are what texts are counted in; the second time they are spelled as characters of two bytes.
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
    // What is not a fixed text may be a single character, or lie between any two.
    const least = pattern.kind === 'String' ? pattern.text.length : 0
    const growth = least === 0 ? 1 + content.length : Math.max(1, content.length / least)
    return { growth, linear: pattern.kind === 'String' && least > 0 && pattern.text.length <= MAX_LINEAR_TOKEN_LENGTH }
  }

  #split(part: unknown): Pipeline {
    const pattern = this.#pattern(part)
    if (pattern.kind === 'String') return { growth: 1, linear: pattern.text.length <= MAX_LINEAR_TOKEN_LENGTH }
    if (isLinearTimePattern(pattern.text)) return LINEAR
    // Where the behavior is Removed, each match leaves what its groups have taken.
    const { behavior } = part as { readonly behavior?: unknown }
    const removed = typeof behavior === 'string' && behavior.toLowerCase() === 'removed'
    return { growth: removed ? pattern.text.split('(').length : 1, linear: false }
  }

  #model(model: TokenizerJson['model']): Pipeline {
    const affix = (name: string) => (typeof model[name] === 'string' ? (model[name] as string).length : 0)
    const affixes = affix('end_of_word_suffix') + affix('continuing_subword_suffix')
    if (Array.isArray(model.vocab)) {
      // Unigram weighs every token that begins at a position.
      const tokens = model.vocab as readonly (readonly [string, number])[]
      const longest = tokens.reduce((most, [token]) => Math.max(most, token.length), 1)
      if (model.byte_fallback === true) {
        throw this.#invalid(
          'a Unigram model with byte_fallback cannot be encoded with: its unknown characters would be lost',
        )
      }
      return { growth: longest, linear: false }
    }
    if (model.type !== 'BPE') return { growth: 1 + affixes, linear: false }
    if (affix('continuing_subword_prefix') > 0) {
      throw this.#invalid(
        `a BPE model with the continuing_subword_prefix ${shown(model.continuing_subword_prefix)} cannot be encoded with: ` +
          'its words would be split into other tokens',
      )
    }
    return { growth: 1 + affixes, linear: affixes <= MAX_LINEAR_AFFIX_LENGTH }
  }

  #postProcessor(part: unknown): Pipeline {
    if (part === null || part === undefined) return LINEAR
    switch (this.#typeOf(part, 'post_processor')) {
      case 'Sequence':
        return inTurn(this.#list(part, 'processors').map((inner) => this.#postProcessor(inner)))
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
    if (++this.#parts > MAX_PARTS) throw this.#invalid(`it has more than ${MAX_PARTS} parts that work on a text`)
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

function inTurn(pipelines: readonly Pipeline[]): Pipeline {
  return {
    growth: pipelines.reduce((product, { growth }) => product * growth, 1),
    linear: pipelines.every(({ linear }) => linear),
  }
}
