import type { ChatMessage, ChatOptions, Model } from '../../src'
import { ChatGeneration } from '../../src/generation/chat-generation'
import { ChatReader, type ChatReaderOptions } from '../../src/generation/chat-reader'
import type { FinishReason } from '../../src/generation/results'

export interface Script extends Partial<ChatReaderOptions> {
  /** The answer, token by token. */
  readonly parts: readonly string[]
  /** The end of the prompt. */
  readonly turn?: string
  readonly finishReason?: FinishReason
  readonly stoppedBy?: string | number
}

/** An answer as a model would give it, from a script. */
export function scriptedChat({
  parts,
  turn = '',
  finishReason = 'stop',
  stoppedBy,
  tools,
  reasoning = 'none',
}: Script): ChatGeneration {
  const tokenizer = { specialIds: new Set<number>(), tokenToId: () => undefined, decode: () => turn }
  const reader = new ChatReader(tokenizer, { tools, reasoning, form: undefined })
  reader.begin([])
  const chunks = parts.map((text, index) => ({
    text,
    tokenIds: [index],
    events: [...reader.read(text), ...(index === parts.length - 1 ? reader.end(finishReason, stoppedBy) : [])],
  }))
  return new ChatGeneration(
    {
      result: async () => ({
        tokenIds: parts.map((_, index) => index),
        text: parts.join(''),
        finishReason,
        ...(stoppedBy !== undefined && { stoppedBy }),
        seed: '1',
        usage: { promptTokens: 7, cachedTokens: 0, completionTokens: parts.length, totalTokens: 7 + parts.length },
        timings: { timeToFirstToken: 1, total: 1, prefillTokensPerSecond: 1, decodeTokensPerSecond: 1 },
      }),
      cancel() {},
      async *[Symbol.asyncIterator]() {
        yield* chunks
      },
    },
    reader,
  )
}

/** A model whose answers follow scripts, one after the other. It keeps what it was asked. */
export function scriptedModel(scripts: readonly Script[]) {
  const asked: { readonly messages: readonly ChatMessage[]; readonly options: ChatOptions }[] = []
  const model = {
    activity: () => ({ waiting: 0 }),
    observe: () => () => {},
    chat(messages: readonly ChatMessage[], options: ChatOptions) {
      const script = scripts[asked.length] as Script
      asked.push({ messages, options })
      const functions = options.tools?.map((tool) => tool.function)
      const isParallel = options.parallelToolCalls ?? true
      return scriptedChat({ ...(functions && { tools: { format: 'hermes', functions, isParallel } }), ...script })
    },
  }
  return { model: model as unknown as Model, asked }
}

/** A call of a function `weather`, token by token, as Hermes models write it. */
export const weatherCall = (city: string): string[] => [
  '<tool_call>',
  '\n{"name": "weather",',
  ' "arguments": {"city"',
  `: "${city}"}}\n`,
  '</tool_call>',
]
