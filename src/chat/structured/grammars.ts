import { createHash } from 'node:crypto'
import { BillfishError } from '../../common/errors'
import { forEachInSlices } from '../../common/event-loop'
import { addon } from '../../native/addon'
import type { NativeGrammar, NativeMatcher, NativeTokenTrie } from '../../native/grammar'
import { TOOL_CALL_TAGS } from '../tools/tool-parser'
import { compileStructuredOutput } from './compile'
import type { AnswerForm } from './spec'

/** What is needed of a tokenizer. */
export interface GrammarVocabulary {
  readonly specialIds: ReadonlySet<number>
  readonly leadingSpacesToStrip: number
  idToBytes(id: number): Uint8Array | undefined
  tokenToId(token: string): number | undefined
}

/** Grammars that are kept for later answers of the same form. */
const MAX_KEPT = 64

/** The grammars of a model, compiled once for all answers of the same form. */
export class Grammars {
  readonly #tokenizer: GrammarVocabulary
  readonly #size: number
  #textTrie: Promise<NativeTokenTrie> | undefined
  #callTrie: Promise<NativeTokenTrie> | undefined
  /** By hash, the least recently used first. */
  readonly #kept = new Map<string, Promise<NativeGrammar>>()

  /** @param size number of logits: higher tokens than the tokenizer's are never allowed */
  constructor(tokenizer: GrammarVocabulary, size: number) {
    this.#tokenizer = tokenizer
    this.#size = size
  }

  /**
   * A matcher for a new answer.
   * @param endTokens allowed where the answer is complete
   * @throws BillfishError INVALID_OPTION for a form that is malformed, not supported, too large, or matches nothing
   */
  async matcher(form: AnswerForm, endTokens: Iterable<number>): Promise<NativeMatcher> {
    const grammar = await this.#grammar(form)
    return new (addon().Matcher)(grammar, Int32Array.from(endTokens), this.#tokenizer.leadingSpacesToStrip)
  }

  #grammar(form: AnswerForm): Promise<NativeGrammar> {
    const key = keyOf(form)
    const kept = this.#kept.get(key)
    this.#kept.delete(key)
    const grammar = kept ?? this.#compile(form)
    this.#kept.set(key, grammar)
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest)
    if (!kept) grammar.catch(() => this.#kept.delete(key))
    return grammar
  }

  async #compile(form: AnswerForm): Promise<NativeGrammar> {
    const { states, byteEdges, calls, rules } = await compileStructuredOutput(form)
    return new (addon().Grammar)(await this.#trieOf(form), states, byteEdges, calls, rules)
  }

  /** Special tokens are no text, but the tags of calls, which may be special, are what calls are made of. */
  #trieOf(form: AnswerForm): Promise<NativeTokenTrie> {
    const { specialIds } = this.#tokenizer
    if (!('calls' in form)) {
      this.#textTrie ??= this.#makeTrie(specialIds)
      return this.#textTrie
    }
    const tags = new Set(TOOL_CALL_TAGS.map((tag) => this.#tokenizer.tokenToId(tag)))
    const others = new Set([...specialIds].filter((id) => !tags.has(id)))
    this.#callTrie ??= this.#makeTrie(others)
    return this.#callTrie
  }

  async #makeTrie(skipped: ReadonlySet<number>): Promise<NativeTokenTrie> {
    const offsets = new Int32Array(this.#size + 1)
    const parts: Uint8Array[] = []
    let length = 0
    await forEachInSlices(offsets.subarray(0, -1).keys(), (id) => {
      const bytes = skipped.has(id) ? undefined : this.#tokenizer.idToBytes(id)
      if (bytes) parts.push(bytes)
      length += bytes?.length ?? 0
      offsets[id + 1] = length
    })
    return new (addon().TokenTrie)(Buffer.concat(parts, length), offsets)
  }
}

/** @throws BillfishError INVALID_OPTION for a schema whose nesting no JSON can be made of */
function keyOf(form: AnswerForm): string {
  try {
    return createHash('sha256').update(JSON.stringify(form)).digest('base64')
  } catch (error) {
    throw new BillfishError('INVALID_OPTION', 'The schema of the answer or of a tool is nested too deeply.', {
      cause: error,
    })
  }
}
