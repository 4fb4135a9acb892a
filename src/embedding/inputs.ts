/** What embed(), rerank() and score() are given: texts, or their token ids, one or many. */
import { BillfishError } from '../common/errors'
import { readTokenIds } from '../generation/token-ids'
import { printed } from '../options/printed'
import { guarded } from '../options/snapshot'
import type { Tokenizer } from '../tokenizer'

export type TokenIds = readonly number[] | Int32Array | Uint32Array

/** A text, its token ids, or a list of either. */
export type EmbeddingInput = string | readonly string[] | TokenIds | readonly TokenIds[]

/** Inputs at once: more are a mistake, or should be cut by the caller. */
const MAX_INPUTS = 1_000_000

/**
 * Copies the inputs: texts, or checked token ids.
 * @throws BillfishError INVALID_OPTION
 */
export function readInputs(
  given: unknown,
  limits: { readonly vocabulary: number; readonly maxModelLength: number },
): (string | number[])[] {
  if (typeof given === 'string') return [given]
  const isList = guarded('The inputs', () => Array.isArray(given) || ArrayBuffer.isView(given))
  if (!isList) {
    throw new BillfishError(
      'INVALID_OPTION',
      `The inputs must be a text, token ids, or an array of either, not ${printed(given)}.`,
    )
  }
  const list = given as ArrayLike<unknown>
  const why = 'maxModelLength: shorten it, or load the model with a larger one'
  const tokens = (ids: unknown) =>
    readTokenIds(ids, { vocabulary: limits.vocabulary, most: limits.maxModelLength, why })
  return guarded('The inputs', () => {
    if (list.length === 0) throw new BillfishError('INVALID_OPTION', 'There are no inputs; give at least one.')
    if (typeof list[0] === 'number' || ArrayBuffer.isView(given)) return [tokens(given)]
    if (list.length > MAX_INPUTS) {
      throw new BillfishError('INVALID_OPTION', `There are ${list.length} inputs, but at most ${MAX_INPUTS} at once.`)
    }
    return Array.from(list, (input) => (typeof input === 'string' ? input : tokens(input)))
  })
}

/**
 * Token ids of a text with a prompt before it.
 * @throws BillfishError INVALID_OPTION without a tokenizer, or for a text that is too long; the signal's reason
 */
export async function encodeText(
  tokenizer: Tokenizer | undefined,
  text: string,
  maxModelLength: number,
  options: { readonly addSpecialTokens?: boolean; readonly signal: AbortSignal },
): Promise<number[]> {
  if (tokenizer === undefined) {
    throw new BillfishError('INVALID_OPTION', 'The checkpoint has no tokenizer; give token ids instead of texts.')
  }
  const ids = Array.from(await tokenizer.encode(text, options))
  if (ids.length > maxModelLength) {
    throw new BillfishError(
      'INVALID_OPTION',
      `A text has ${ids.length} tokens, but maxModelLength is ${maxModelLength}. Shorten it, or load the model with a larger one.`,
    )
  }
  if (ids.length === 0) throw new BillfishError('INVALID_OPTION', 'A text has no tokens; give at least one.')
  return ids
}
