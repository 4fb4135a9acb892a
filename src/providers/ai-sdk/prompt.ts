/** Prompts of the AI SDK as messages for chat templates. */
import {
  type LanguageModelV3Message,
  type LanguageModelV3Prompt,
  type LanguageModelV3ToolResultPart,
  UnsupportedFunctionalityError,
} from '@ai-sdk/provider'
import type { ChatMessage } from '../../generation/chat-message'

/** @throws UnsupportedFunctionalityError for files and images, and for tools that a provider runs */
export function templateMessages(prompt: LanguageModelV3Prompt): ChatMessage[] {
  return prompt.flatMap(messagesOf)
}

function messagesOf(message: LanguageModelV3Message): ChatMessage[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }]
    case 'user':
      return [{ role: 'user', content: message.content.map(textOf).join('') }]
    case 'assistant':
      return [assistantMessage(message.content)]
    case 'tool': // each result is a message; approvals concern tools that a provider runs
      return message.content.flatMap((part) => (part.type === 'tool-result' ? [resultMessage(part)] : []))
  }
}

type AssistantPart = Extract<LanguageModelV3Message, { role: 'assistant' }>['content'][number]

function assistantMessage(parts: readonly AssistantPart[]): ChatMessage {
  const [reasoning, others] = [ofType(parts, 'reasoning'), parts.filter(({ type }) => type !== 'reasoning')]
  const calls = ofType(parts, 'tool-call')
  return {
    role: 'assistant',
    content: others
      .filter(({ type }) => type !== 'tool-call')
      .map(textOf)
      .join(''),
    ...(reasoning.length > 0 && { reasoning_content: reasoning.map(({ text }) => text).join('') }),
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ toolCallId, toolName, input }) => ({
        id: toolCallId,
        type: 'function',
        function: { name: toolName, arguments: input },
      })),
    }),
  }
}

function resultMessage({ toolCallId, toolName, output }: LanguageModelV3ToolResultPart): ChatMessage {
  return { role: 'tool', tool_call_id: toolCallId, name: toolName, content: resultText(output) }
}

function resultText(output: LanguageModelV3ToolResultPart['output']): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value)
    case 'execution-denied':
      return output.reason ?? 'The user did not allow this call.'
    case 'content':
      return output.value.map(textOf).join('')
  }
}

/** @throws UnsupportedFunctionalityError for what is not text */
function textOf(part: { readonly type: string; readonly text?: string; readonly mediaType?: string }): string {
  if (part.type === 'text') return part.text ?? ''
  const media = part.mediaType === undefined ? '' : ` of type ${part.mediaType}`
  throw new UnsupportedFunctionalityError({ functionality: `a part '${part.type}'${media} in the prompt` })
}

function ofType<Part extends { type: string }, Type extends Part['type']>(parts: readonly Part[], type: Type) {
  return parts.filter((part): part is Extract<Part, { type: Type }> => part.type === type)
}
