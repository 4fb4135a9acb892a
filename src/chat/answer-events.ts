/** What a model's answer consists of. */

/** A part of an answer, as it is generated. */
export type AnswerEvent =
  /** What the model thinks before it answers. */
  | { readonly type: 'reasoning'; readonly text: string }
  | { readonly type: 'content'; readonly text: string }
  /** The start of a tool call. Its arguments follow. */
  | { readonly type: 'toolCallBegin'; readonly index: number; readonly id: string; readonly name: string }
  /** The next part of the arguments' JSON. */
  | { readonly type: 'toolCallArguments'; readonly index: number; readonly text: string }
  /** The call is complete: its parts together are what the model meant as its arguments. */
  | { readonly type: 'toolCallEnd'; readonly index: number }

/** A call of a function that the model asks for. */
export interface ToolCall {
  readonly id: string
  readonly name: string
  /** JSON as the model wrote it, `{}` if it wrote none. Cut off if the answer is, and not always valid: check it. */
  readonly arguments: string
}

/** An answer as a whole. */
export interface Answer {
  /** Null if there are only tool calls, or reasoning. */
  readonly content: string | null
  /** What the model thought before it answered; undefined if nothing. */
  readonly reasoning?: string | undefined
  readonly toolCalls: readonly ToolCall[]
}
