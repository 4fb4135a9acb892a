import type { SamplingSpec } from '../native/addon'

/** Tokens that a checkpoint bans, forces and biases, as the logits processors of transformers do. */
export interface TokenRules {
  readonly banned: readonly number[]
  /** Banned as the first token of an answer. */
  readonly bannedFirst: readonly number[]
  /** The last token of each sequence is banned if the others precede it. */
  readonly bannedSequences: readonly (readonly number[])[]
  /** `bias` is added to the logit of the last token if the others precede it. */
  readonly biasedSequences: readonly { readonly tokens: readonly number[]; readonly bias: number }[]
  /** No n-gram of this size may repeat in prompt and answer; 0: no limit. */
  readonly noRepeat: number
  /** The same for the n-grams of the prompt alone. */
  readonly noRepeatOfPrompt: number
  /** At most one token: the first of the answer after a prompt of a single token. */
  readonly forcedAfterFirst: readonly number[]
  /** The last token of an answer that reaches its maximum length is one of these. */
  readonly forcedLast: readonly number[]
}

export const noTokenRules: TokenRules = {
  banned: [],
  bannedFirst: [],
  bannedSequences: [],
  biasedSequences: [],
  noRepeat: 0,
  noRepeatOfPrompt: 0,
  forcedAfterFirst: [],
  forcedLast: [],
}

/** Dominates every logit: adding a logit to it changes nothing in fp32. */
const FORCING_BIAS = 2 ** 100

/** Rules for sampling one token. */
export interface StepRules {
  /** Whether only tokens in `biased` are allowed, overriding all bans. */
  readonly forced: boolean
  readonly banned: readonly number[]
  readonly biased: readonly { readonly token: number; readonly bias: number }[]
}

/**
 * The rules for the token after `prompt` and `answer`.
 * @param answerLength maximum length of the answer
 */
export function rulesOfStep(
  rules: TokenRules,
  prompt: readonly number[],
  answer: readonly number[],
  answerLength: number,
): StepRules {
  const forced = forcedTokens(rules, prompt, answer, answerLength)
  if (forced.length > 0)
    return { forced: true, banned: [], biased: forced.map((token) => ({ token, bias: FORCING_BIAS })) }
  const length = prompt.length + answer.length
  const tokenAt = (i: number) => (i < prompt.length ? prompt[i] : answer[i - prompt.length]) as number
  /** Whether the sequence ends with all but the last of `tokens`. */
  const precedes = (tokens: readonly number[]) => {
    const start = length - (tokens.length - 1)
    if (start < 0) return false
    for (let i = 0; i < tokens.length - 1; i++) if (tokenAt(start + i) !== tokens[i]) return false
    return true
  }
  const last = (tokens: readonly number[]) => tokens[tokens.length - 1] as number
  return {
    forced: false,
    banned: [
      ...rules.banned,
      ...(answer.length === 0 ? rules.bannedFirst : []),
      ...rules.bannedSequences.filter(precedes).map(last),
      ...repeats(rules.noRepeat, tokenAt, length, length),
      ...repeats(rules.noRepeatOfPrompt, tokenAt, prompt.length, length),
    ],
    biased: rules.biasedSequences
      .filter(({ tokens }) => precedes(tokens))
      .map(({ tokens, bias }) => ({ token: last(tokens), bias })),
  }
}

function forcedTokens(
  { forcedAfterFirst, forcedLast }: TokenRules,
  prompt: readonly number[],
  answer: readonly number[],
  answerLength: number,
): readonly number[] {
  if (forcedLast.length > 0 && answer.length === answerLength - 1) return forcedLast
  return prompt.length + answer.length === 1 ? forcedAfterFirst : []
}

/** Tokens that would repeat an n-gram of `size` tokens among the first `searched` of `length` tokens. */
function repeats(size: number, tokenAt: (i: number) => number, searched: number, length: number): number[] {
  const found: number[] = []
  const start = length - (size - 1)
  if (size === 0 || start < 0) return found
  for (let at = 0; at + size <= searched; at++) {
    let i = 0
    while (i < size - 1 && tokenAt(at + i) === tokenAt(start + i)) i++
    if (i === size - 1) found.push(tokenAt(at + i))
  }
  return found
}

/** Merges the rules of a step into the bans and biases of a sampling spec. */
export function withRules(sampling: SamplingSpec, { forced, banned, biased }: StepRules): SamplingSpec {
  const { bannedTokens = [], biasTokens = [], biasValues = [] } = sampling
  return {
    ...sampling,
    ...(forced && { bannedTokens: undefined }),
    ...(banned.length > 0 && { bannedTokens: Int32Array.from([...bannedTokens, ...banned]) }),
    ...(biased.length > 0 && {
      biasTokens: Int32Array.from([...biasTokens, ...biased.map(({ token }) => token)]),
      biasValues: Float32Array.from([...biasValues, ...biased.map(({ bias }) => bias)]),
    }),
  }
}
