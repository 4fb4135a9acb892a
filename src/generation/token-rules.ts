import type { SamplingSpec } from '../native/addon'

/** What a checkpoint forbids, forces and favors, token by token; as transformers' logits processors do it. */
export interface TokenRules {
  readonly banned: readonly number[]
  /** As the first token of an answer. */
  readonly bannedFirst: readonly number[]
  /** The last token of each is banned where the others precede it. */
  readonly bannedSequences: readonly (readonly number[])[]
  /** To the logit of the last token of each `bias` is added where the others precede it. */
  readonly biasedSequences: readonly { readonly tokens: readonly number[]; readonly bias: number }[]
  /** No so many tokens in a row may come twice in prompt and answer; 0: they may. */
  readonly noRepeat: number
  /** The same of the prompt's alone. */
  readonly noRepeatOfPrompt: number
  /** One token or none: the answer's first behind a prompt of a single token. */
  readonly forcedAfterFirst: readonly number[]
  /** The last token of an answer that reaches its length is one of these. */
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

/** Beside this no logit counts, and all that it is added to are the same number in fp32. */
const FORCING_BIAS = 2 ** 100

/** How a step's token is to be drawn. */
export interface StepRules {
  /** Whether only those of `biased` can come, whatever else is banned. */
  readonly forced: boolean
  readonly banned: readonly number[]
  readonly biased: readonly { readonly token: number; readonly bias: number }[]
}

/**
 * The rules for the token behind `prompt` and `answer`.
 * @param answerLength how long the answer may become
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
  /** Whether what is before the last token of `tokens` is what is there. */
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

/** The tokens that would make the last `size` of `length` tokens a repetition of some among the first `searched`. */
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

/** Adds a step's rules to a sampling's own bans and biases. */
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
