/** The field tool_choice, which OpenAI's two chat endpoints spell differently. */
import type { ToolChoice } from '../../generation/chat-options'
import { invalidRequest } from '../request-error'

/**
 * @param choice as the request has it, a named function as `{ name }`
 * @param names of the request's tools; undefined if it has none
 * @throws RequestError 400 for a choice that cannot be met
 */
export function checkedChoice(
  choice: ToolChoice | undefined,
  names: readonly string[] | undefined,
): ToolChoice | undefined {
  if (choice === undefined || choice === 'none') return choice
  if (names === undefined) throw invalidRequest('tool_choice is given without tools.', 'tool_choice')
  if (typeof choice === 'object' && !names.includes(choice.name)) {
    throw invalidRequest(`tool_choice names ${choice.name}, which is none of the tools.`, 'tool_choice')
  }
  return choice
}
