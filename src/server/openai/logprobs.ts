/** Log-probabilities of tokens as OpenAI's two endpoints for text report them. */
import type { TokenLogprob } from '../../generation/results'
import type { Tokenizer } from '../../tokenizer'

/** JSON has no -Infinity; vLLM writes this, too. */
const LOWEST = -9999

const finite = (logprob: number) => Math.max(logprob, LOWEST)

type Tokens = Pick<Tokenizer, 'decode' | 'idToBytes'>

/** `logprobs` of a choice of chat completions, or of a part of one. */
export function chatLogprobs(tokens: readonly TokenLogprob[], tokenizer: Tokens) {
  const entry = ({ token, logprob }: { readonly token: number; readonly logprob: number }) => {
    const bytes = tokenizer.idToBytes(token)
    return { token: tokenizer.decode(token), logprob: finite(logprob), bytes: bytes === undefined ? null : [...bytes] }
  }
  return {
    content: tokens.map((sampled) => ({ ...entry(sampled), top_logprobs: sampled.alternatives.map(entry) })),
  }
}

/** `logprobs` of choices of completions, whose parts are reported one after the other. */
export class CompletionLogprobs {
  readonly #tokenizer: Tokens
  #offset: number

  /** @param offset UTF-16 units of the text before the first token */
  constructor(tokenizer: Tokens, offset: number) {
    this.#tokenizer = tokenizer
    this.#offset = offset
  }

  next(tokens: readonly TokenLogprob[]) {
    const texts = tokens.map(({ token }) => this.#tokenizer.decode(token))
    return {
      tokens: texts,
      token_logprobs: tokens.map(({ logprob }) => finite(logprob)),
      top_logprobs: tokens.map(({ alternatives }) =>
        Object.fromEntries(alternatives.map(({ token, logprob }) => [this.#tokenizer.decode(token), finite(logprob)])),
      ),
      text_offset: texts.map((text) => {
        const at = this.#offset
        this.#offset += text.length
        return at
      }),
    }
  }
}
