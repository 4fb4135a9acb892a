import { z } from 'zod'
import { shown } from '../checkpoint/invalid'
import { whole } from '../options/values'
import { generationConfigKeys } from './generation-config-keys'
import { generateOptions } from './sampling-options'
import { noTokenRules, type TokenRules } from './token-rules'
import type { Tokenizer } from './types'

/** What a checkpoint says about how it wants to be sampled; an option of generate() goes before each of these. */
export interface GenerationDefaults {
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly repetitionPenalty: number
  /** Undefined: as long as the model's length allows. */
  readonly maxNewTokens: number | undefined
  /** Tokens of prompt and answer, where `maxNewTokens` is undefined. */
  readonly maxLength: number | undefined
  readonly minNewTokens: number | undefined
  /** Tokens of prompt and answer, where `minNewTokens` is undefined. */
  readonly minLength: number | undefined
  readonly stop: readonly string[]
  /** Tokens that end a generation. */
  readonly endTokenIds: ReadonlySet<number>
  readonly rules: TokenRules
  /** What of generation_config.json and config.json is ignored, and why; for the user to read. */
  readonly notices: readonly string[]
}

type Json = Readonly<Record<string, unknown>>

const { schemas } = generateOptions
const MAX_INT32 = 2 ** 31 - 1
/** Far more than any logit: larger ones might add up to an infinity. */
const MAX_BIAS = 1e6
const count = (low: number) => whole(low, MAX_INT32, `a whole number of at least ${low}`)

/** What a value may be that is not made of token ids. Descriptions end the sentence "top_p is 2, but must be ...". */
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
 * Reads generation_config.json. What it does not say is off: without `do_sample` generation is greedy, as in
 * transformers, and without `top_k` there is no top-k (transformers would take 50). The tokens that end a generation are
 * its `eos_token_id` (else that of config.json) together with the tokenizer's own end token, and for Qwen v1 chat models
 * (`chat_format` is chatml) the ends of a turn.
 *
 * A value that cannot be what it should be is ignored, and so is a key that is not heeded; `notices` tells of both.
 * {@link generationConfigKeys} has all keys.
 * @param generationConfig the file's object, empty if there is no file
 * @param config config.json
 * @param vocabulary ids from here on cannot come and are left out
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
  if (stop.length > 0 && !tokenizer) file.note('stop_strings', 'cannot be heeded without a tokenizer')
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

/** A file's values, one by one; what is odd is noted and left out. */
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

  /** Notes the keys that are not heeded or not known. */
  noteKeys(): void {
    for (const [key, value] of Object.entries(this.#json)) {
      if (value === null) continue
      const known = Object.hasOwn(generationConfigKeys, key) ? generationConfigKeys[key] : undefined
      if (known === undefined) this.note(key, 'is ignored, since no such key is known')
      else if (known.treatment === 'not heeded' && !known.neutral?.includes(value)) {
        this.note(key, `is not heeded: ${known.note.replaceAll('`', '')}`)
      }
    }
  }

  scalar<Key extends keyof typeof scalars>(key: Key): z.infer<(typeof scalars)[Key]> | undefined {
    const value = this.#json[key] ?? undefined
    if (value === undefined) return undefined
    const schema: z.ZodType = scalars[key]
    if (schema.safeParse(value).success) return value as z.infer<(typeof scalars)[Key]>
    this.note(key, `is ignored, since it must be ${schema.description}`)
    return undefined
  }

  /** One token id or several; undefined if there is none that can come. */
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
      `, each beside a bias from -${MAX_BIAS} to ${MAX_BIAS}`,
    )
  }

  #kept<Item>(key: string, value: unknown, read: (entry: unknown) => Item | undefined, more = ''): Item[] {
    const items = Array.isArray(value) ? value.map(read) : [undefined]
    const good = items.filter((item) => item !== undefined)
    if (good.length < items.length) {
      const part = good.length > 0 ? 'is ignored in part' : 'is ignored'
      this.note(key, `${part}, since token ids must be whole numbers from 0 to ${this.#vocabulary - 1}${more}`)
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
