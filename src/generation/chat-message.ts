/** A message of a conversation. Additional members (`tool_calls`, `name`, ...) are passed to the template unchanged. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool`, or another role the template supports. */
  readonly role: string
  /** The text; parts of type `text` are concatenated. May be null or absent in a message with `tool_calls`. */
  readonly content?: string | null | readonly { readonly type: 'text'; readonly text: string }[] | undefined
  readonly [member: string]: unknown
}
