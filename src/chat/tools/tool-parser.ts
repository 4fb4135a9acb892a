/** The tags around a call, in all formats. */
export const TOOL_CALL_TAGS = ['<tool_call>', '</tool_call>'] as const

/** What a parser of tool calls finds in an answer. */
export interface ToolCallSink {
  /** Text that is no call. */
  text(text: string): void
  beginCall(name: string): void
  callArguments(text: string): void
  endCall(): void
}

/** Finds tool calls in an answer's text. */
export interface ToolParser {
  push(text: string): void
  /** @param isCut whether the answer was cut off, by its length or a stop string, rather than ended by the model */
  end(isCut: boolean): void
}

/** A function that the model may call, as the parsers need it. */
export interface ToolFunction {
  readonly name: string
  /** JSON schema of its arguments, an object. */
  readonly parameters?: unknown
}
