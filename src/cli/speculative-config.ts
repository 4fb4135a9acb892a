/** vLLM's `--speculative-config`, by its own names. */

import { readValue } from '../options/read-options'
import { members } from '../options/values'
import { type SpeculationOptions, speculationMembers } from '../pipeline/speculation'
import { parseJsonOption } from './device-list'

const { method, tokens, minMatch, maxMatch } = speculationMembers
const speculativeConfig = members({
  method,
  num_speculative_tokens: tokens,
  prompt_lookup_min: minMatch,
  prompt_lookup_max: maxMatch,
}).describe('a JSON object such as {"method": "ngram", "num_speculative_tokens": 4}')

/** @throws BillfishError INVALID_OPTION naming the member that is wrong */
export function parseSpeculativeConfig(text: string): SpeculationOptions {
  const option = '--speculative-config'
  const given = readValue(speculativeConfig, parseJsonOption(option, text), option)
  return {
    method: given.method,
    tokens: given.num_speculative_tokens,
    minMatch: given.prompt_lookup_min,
    maxMatch: given.prompt_lookup_max,
  }
}
