import { z } from 'zod'
import { shown } from '../checkpoint/invalid'
import { whole } from '../options/values'
import { generationConfigKeys } from './generation-config-keys'
import { type GenerationDefaults, generateOptions } from './sampling-options'
import { noTokenRules, type TokenRules } from './token-rules'
import type { Tokenizer } from './types'

type Json = Readonly<Record<string, unknown>>

const { schemas } = generateOptions
const MAX_INT32 = 2 ** 31 - 1
/** Far above any logit; larger values could add up to infinity. */
const MAX_BIAS = 1e6
const count = (low: number) => whole(low, MAX_INT32, `a whole number of at least ${low}`)

/** Valid values of keys other than token ids. Descriptions complete the sentence "top_p is 2, but must be ...". */
const scalars = {
  do_sample: z.boolean().describe('true or false'),
  temperature: schemas.temperature,
  top_k: whole(-1, MAX_INT32, 'a whole number of at least 1, or 0 or -1 for all tokens'),
  top_p: schemas.topP,
  min_p: schemas.minP,
  repetition_penalty: schemas.repetitionPenalty,
  max_new_tokens: count(1),
  max_length: count(1),
  min_new_tokens: count(0),
  min_length: count(0),
  no_repeat_ngram_size: count(0),
  encoder_no_repeat_ngram_size: count(0),
  stop_strings: schemas.stop,
  chat_format: z.string().describe('a text'),
} satisfies Record<string, z.ZodType>

const CHATML_ENDS = ['<|im_end|>', '<|im_start|>']

/**
 * Reads generation_config.json. What it does not set is off: without `do_sample` generation is greedy, as in
 * transformers, and without `top_k` there is no top-k (transformers uses 50). End tokens are its `eos_token_id` (else
 * that of config.json), the end token of the tokenizer and, for Qwen v1 chat models (`chat_format` is chatml), the turn
 * delimiters.
 *
 * Invalid values and unsupported keys are ignored, with an entry in `notices`. {@link generationConfigKeys} lists all
 * keys.
 * @param generationConfig parsed file; empty if there is none
 * @param config config.json
 * @param vocabulary upper bound (exclusive) of token ids; others are dropped
 */
export function readGenerationDefaults(
  generationConfig: Json,
  config: Json,
  tokenizer: Tokenizer | undefined,
  vocabulary: number,
): GenerationDefaults {
  const file = new Reader('generation_config.json', generationConfig, vocabulary)
  file.noteKeys()
  const configFile = new Reader('config.json', config, vocabulary)
  const ends = file.tokenIds('eos_token_id') ?? configFile.tokenIds('eos_token_id') ?? []
  const endTexts = [tokenizer?.specialTokens.eos, ...(file.scalar('chat_format') === 'chatml' ? CHATML_ENDS : [])]
  const textIds = endTexts.map((text) => (text === undefined ? undefined : tokenizer?.tokenToId(text)))
  const endTokenIds = new Set([...ends, ...textIds.filter((id) => id !== undefined && id < vocabulary)] as number[])

  const temperature = file.scalar('temperature') ?? 1
  const stop = [file.scalar('stop_strings') ?? []].flat()
  if (stop.length > 0 && !tokenizer) file.note('stop_strings', 'is ignored because there is no tokenizer')
  const isEnd = (tokens: readonly number[]) => tokens.length === 1 && ends.includes(tokens[0] as number)
  const rules: TokenRules = {
    banned: file.tokenIds('suppress_tokens') ?? [],
    bannedFirst: file.tokenIds('begin_suppress_tokens') ?? [],
    bannedSequences: file.sequences('bad_words_ids').filter((tokens) => !isEnd(tokens)),
    biasedSequences: file.biasedSequences('sequence_bias'),
    noRepeat: file.scalar('no_repeat_ngram_size') ?? 0,
    noRepeatOfPrompt: file.scalar('encoder_no_repeat_ngram_size') ?? 0,
    forcedAfterFirst: file.tokenIds('forced_bos_token_id')?.slice(0, 1) ?? [],
    forcedLast: file.tokenIds('forced_eos_token_id') ?? [],
  }
  return {
    temperature: file.scalar('do_sample') === true ? temperature : 0,
    topK: Math.max(file.scalar('top_k') ?? 0, 0),
    topP: file.scalar('top_p') ?? 1,
    minP: file.scalar('min_p') ?? 0,
    repetitionPenalty: file.scalar('repetition_penalty') ?? 1,
    maxNewTokens: file.scalar('max_new_tokens'),
    maxLength: file.scalar('max_length'),
    minNewTokens: file.scalar('min_new_tokens'),
    minLength: file.scalar('min_length'),
    stop: tokenizer ? stop : [],
    endTokenIds,
    rules: Object.values(rules).every((rule) => rule === 0 || (Array.isArray(rule) && rule.length === 0))
      ? noTokenRules
      : rules,
    notices: [...file.notices, ...configFile.notices],
  }
}

/** Reads the values of a file; invalid ones are noted and skipped. */
class Reader {
  readonly #notices = new Map<string, string>()

  readonly #file: string
  readonly #json: Json
  readonly #vocabulary: number

  constructor(file: string, json: Json, vocabulary: number) {
    this.#file = file
    this.#json = json
    this.#vocabulary = vocabulary
  }

  get notices(): readonly string[] {
    return [...this.#notices.values()]
  }

  note(key: string, what: string): void {
    this.#notices.set(`${key} ${what}`, `${this.#file}: ${key} is ${shown(this.#json[key])}, which ${what}.`)
  }

  /** Notes unsupported and unknown keys. */
  noteKeys(): void {
    for (const [key, value] of Object.entries(this.#json)) {
      if (value === null) continue
      const known = Object.hasOwn(generationConfigKeys, key) ? generationConfigKeys[key] : undefined
      if (known === undefined) this.note(key, 'is ignored because the key is unknown')
      else if (known.treatment === 'ignored' && !known.neutral?.includes(value)) {
        this.note(key, `is ignored: ${known.note.replaceAll('`', '')}`)
      }
    }
  }

  scalar<Key extends keyof typeof scalars>(key: Key): z.infer<(typeof scalars)[Key]> | undefined {
    const value = this.#json[key] ?? undefined
    if (value === undefined) return undefined
    const schema: z.ZodType = scalars[key]
    if (schema.safeParse(value).success) return value as z.infer<(typeof scalars)[Key]>
    this.note(key, `is ignored because it must be ${schema.description}`)
    return undefined
  }

  /** One or several token ids; undefined if none is valid. */
  tokenIds(key: string): number[] | undefined {
    const value = this.#json[key] ?? undefined
    if (value === undefined) return undefined
    const ids = this.#kept(key, Array.isArray(value) ? value : [value], (id) => (this.#isTokenId(id) ? id : undefined))
    return ids.length > 0 ? ids : undefined
  }

  sequences(key: string): number[][] {
    return this.#kept(key, this.#json[key] ?? [], (tokens) => this.#sequence(tokens))
  }

  /** Entries `[[token, ...], bias]`. */
  biasedSequences(key: string): { tokens: number[]; bias: number }[] {
    return this.#kept(
      key,
      this.#json[key] ?? [],
      (entry) => {
        const [tokens, bias] = Array.isArray(entry) && entry.length === 2 ? entry : []
        const sequence = this.#sequence(tokens)
        return sequence && Math.abs(bias) <= MAX_BIAS ? { tokens: sequence, bias } : undefined
      },
      `, each with a bias from -${MAX_BIAS} to ${MAX_BIAS}`,
    )
  }

  #kept<Item>(key: string, value: unknown, read: (entry: unknown) => Item | undefined, more = ''): Item[] {
    const items = Array.isArray(value) ? value.map(read) : [undefined]
    const good = items.filter((item) => item !== undefined)
    if (good.length < items.length) {
      const part = good.length > 0 ? 'is partly ignored' : 'is ignored'
      this.note(key, `${part} because token ids must be whole numbers from 0 to ${this.#vocabulary - 1}${more}`)
    }
    return good
  }

  #sequence(tokens: unknown): number[] | undefined {
    const good = Array.isArray(tokens) && tokens.length > 0 && tokens.every((id) => this.#isTokenId(id))
    return good ? tokens : undefined
  }

  #isTokenId(id: unknown): id is number {
    return typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < this.#vocabulary
  }
}
