import { z } from 'zod'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
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
  /** Tokens that end a generation. */
  readonly endTokenIds: ReadonlySet<number>
}

const tokenId = z.number().int().nonnegative()
const tokenIds = z.union([tokenId, z.array(tokenId)])
const schema = z.object({
  do_sample: z.boolean().nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_k: z.number().int().nullish(),
  top_p: z.number().nonnegative().max(1).nullish(),
  min_p: z.number().nonnegative().max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  max_new_tokens: z.number().int().positive().nullish(),
  eos_token_id: tokenIds.nullish(),
  chat_format: z.string().nullish(),
})

/**
 * Reads generation_config.json. What it does not say is off: without `do_sample` generation is greedy, as in
 * transformers, and without `top_k` there is no top-k (transformers would take 50). The tokens that end a generation are
 * its `eos_token_id` (else that of config.json) together with the tokenizer's own end token, and for Qwen v1 chat models
 * (`chat_format` is chatml) the ends of a turn.
 * @param generationConfig the file's object, empty if there is no file
 * @param config config.json
 * @param vocabulary ids from here on cannot come and are left out
 * @throws BillfishError INVALID_CHECKPOINT naming the member
 */
export function readGenerationDefaults(
  generationConfig: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
  tokenizer: Tokenizer | undefined,
  vocabulary: number,
): GenerationDefaults {
  const parsed = schema.safeParse(generationConfig)
  if (!parsed.success) throw invalidMember('generation_config.json', generationConfig, parsed.error)
  const said = parsed.data
  const configEnd = tokenIds.nullish().safeParse(config.eos_token_id)
  if (!configEnd.success) throw invalidCheckpoint(`config.json: eos_token_id is ${shown(config.eos_token_id)}`)

  const ends = [said.eos_token_id ?? configEnd.data ?? []].flat()
  const endTexts = [tokenizer?.specialTokens.eos, ...(said.chat_format === 'chatml' ? CHATML_ENDS : [])]
  for (const text of endTexts) ends.push(text === undefined ? -1 : (tokenizer?.tokenToId(text) ?? -1))
  return {
    temperature: said.do_sample === true ? (said.temperature ?? 1) : 0,
    topK: Math.max(said.top_k ?? 0, 0),
    topP: said.top_p || 1,
    minP: said.min_p ?? 0,
    repetitionPenalty: said.repetition_penalty ?? 1,
    maxNewTokens: said.max_new_tokens ?? undefined,
    endTokenIds: new Set(ends.filter((id) => id >= 0 && id < vocabulary)),
  }
}

const CHATML_ENDS = ['<|im_end|>', '<|im_start|>']

function invalidMember(file: string, json: Readonly<Record<string, unknown>>, error: z.ZodError) {
  const issue = error.issues[0]
  const member = String(issue?.path[0])
  return invalidCheckpoint(`${file}: ${member} is ${shown(json[member])}: ${issue?.message}`)
}
