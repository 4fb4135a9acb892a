/** The parts of a streamed answer, from the server-sent events of /v1/chat/completions. */

export type AnswerPart =
  | { readonly type: 'content' | 'reasoning'; readonly text: string }
  | { readonly type: 'end'; readonly reason: string }
  | { readonly type: 'usage'; readonly completionTokens: number }

interface Chunk {
  readonly error?: { readonly message: string }
  readonly choices?: readonly {
    readonly delta: { readonly content?: string; readonly reasoning?: string }
    readonly finish_reason: string | null
  }[]
  readonly usage?: { readonly completion_tokens: number } | null
}

/** @throws Error in the server's words if an event is one, or if the stream ends before the answer does */
export async function* answerParts(stream: AsyncIterable<string>): AsyncGenerator<AnswerPart> {
  for await (const data of eventData(stream)) {
    if (data === '[DONE]') return
    const { error, choices = [], usage } = JSON.parse(data) as Chunk
    if (error) throw new Error(error.message)
    for (const { delta, finish_reason: reason } of choices) {
      if (delta.reasoning) yield { type: 'reasoning', text: delta.reasoning }
      if (delta.content) yield { type: 'content', text: delta.content }
      if (reason !== null) yield { type: 'end', reason }
    }
    if (usage) yield { type: 'usage', completionTokens: usage.completion_tokens }
  }
  throw new Error('The connection was lost before the answer ended.')
}

/** The data of events, however the stream is cut. This server's have one line of it, and comments between them. */
async function* eventData(stream: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = ''
  for await (const text of stream) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line.startsWith('data: ')) yield line.slice(6)
  }
}
