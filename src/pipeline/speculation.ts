/**
 * Speculative decoding without a second model: tokens that may come next are drafted, and a step computes them along with
 * the last known token, for little more than that one where reading weights is what takes the time.
 *
 * Answers are exactly those without it. A row of the draft is sampled as if the tokens before it were known: with their
 * penalties, and the random number of its own position. As long as what is sampled is what was drafted, they are, so
 * the next row counts too; the first other token ends the draft and is itself the right one. This is rejection sampling:
 * of a drafted token x, which was certain to be drafted, it accepts a share of p(x) and else samples from p without x,
 * and to sample from p and compare does the same.
 */
import { z } from 'zod'
import { members, whole } from '../options/values'
import { NgramIndex } from './ngram-index'
import type { Sequence } from './sequence'
import type { SpeculationCounts } from './speculation-counts'

/** How tokens are drafted. */
export interface SpeculationOptions {
  /** `'ngram'`: the tokens that followed the last ones where these occurred before, in prompt or answer. */
  readonly method: 'ngram'
  /** Tokens that a step checks of a sequence at most, 1 to 32. Default 4. */
  readonly tokens?: number | undefined
  /** Tokens that must have occurred before at least, 1 to `maxMatch`. Default 2, or `maxMatch` if that is less. */
  readonly minMatch?: number | undefined
  /** Tokens that are compared at most, 1 to 16; a longer match goes before a shorter one. Default 4, or `minMatch`. */
  readonly maxMatch?: number | undefined
}

const DEFAULT_TOKENS = 4
const DEFAULT_MIN_MATCH = 2
const DEFAULT_MAX_MATCH = 4

/** Valid values of what `speculation` has. */
export const speculationMembers = {
  method: z.literal('ngram').describe("'ngram'"),
  tokens: whole(1, 32).optional(),
  minMatch: whole(1, 16).optional(),
  maxMatch: whole(1, 16).optional(),
}

/** Valid values of `speculation`. */
export const speculationOption = members(speculationMembers)
  .refine(({ minMatch, maxMatch }) => minMatch === undefined || maxMatch === undefined || minMatch <= maxMatch)
  .describe(
    "an object { method: 'ngram', tokens?: number, minMatch?: number, maxMatch?: number } with minMatch up to maxMatch",
  )

/** Drafts tokens for the sequences of a model, and counts what becomes of them. */
export class Drafter {
  readonly #tokens: number
  readonly #match: { readonly minMatch: number; readonly maxMatch: number }
  readonly #counts = { drafts: 0, draftTokens: 0, acceptedTokens: 0 }

  constructor({ tokens = DEFAULT_TOKENS, minMatch, maxMatch }: SpeculationOptions) {
    this.#tokens = tokens
    const longest = maxMatch ?? Math.max(DEFAULT_MAX_MATCH, minMatch ?? 0)
    this.#match = { minMatch: minMatch ?? Math.min(DEFAULT_MIN_MATCH, longest), maxMatch: longest }
  }

  get counts(): SpeculationCounts {
    return { ...this.#counts }
  }

  /** Tokens that may follow those of a sequence, none if it does not speculate now. */
  draft(sequence: Sequence): readonly number[] {
    if (!sequence.decodes || !sequence.speculates) return []
    // A token is sampled behind the draft, too.
    const most = Math.min(this.#tokens, sequence.tokensLeft - 1)
    if (most < 1) return []
    sequence.ngrams ??= new NgramIndex(sequence.tokens, this.#match)
    return sequence.ngrams.propose(most)
  }

  /** Counts a draft that a step has checked. */
  count(drafted: number, accepted: number): void {
    this.#counts.drafts++
    this.#counts.draftTokens += drafted
    this.#counts.acceptedTokens += accepted
  }
}
