import type { AnswerEvent } from '../chat/answer-events'
import type { AnswerForm } from '../chat/structured/spec'
import type { FinishReason } from './results'

/** Reads an answer while it is generated. Its events come with the chunks of text that tell them. */
export interface AnswerReader {
  /** Special tokens that it has to see; others are no text. */
  readonly tags: readonly string[]
  /** What the answer must be, behind its reasoning; undefined if it may be anything. */
  readonly form: AnswerForm | undefined
  /** Called once, before the first token. */
  begin(prompt: readonly number[]): void
  /** Called for each token, with the text that it made certain. */
  read(text: string): AnswerEvent[]
  /** Whether what comes next is reasoning, which the form that is given for the answer does not concern. */
  readonly isReasoning: boolean
  /** Whether the answer is complete, although the model would go on. */
  readonly isComplete: boolean
  /** Called behind the last token. */
  end(finishReason: FinishReason, stoppedBy: string | number | undefined): AnswerEvent[]
}
