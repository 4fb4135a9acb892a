/** From Anthropic's blocks to messages as chat templates know them. */
import { z } from 'zod'
import { invalidRequest } from '../request-error'

const MAX_BLOCKS = 10_000

const block = z.looseObject({ type: z.string() })
export const contentField = z.union([z.string(), z.array(block).max(MAX_BLOCKS)])

type Content = z.output<typeof contentField>
type Block = z.output<typeof block>
type Message = Record<string, unknown> & { readonly role: string }

/**
 * Results of tools become messages of their own, calls and thoughts members of the assistant's. Roles that the API does not
 * know, which some clients send, are the user's.
 * @throws RequestError 400 for blocks that are not understood
 */
export function chatMessages(
  system: Content | undefined,
  messages: readonly { readonly role: string; readonly content: Content }[],
): Message[] {
  const instructions = system === undefined ? '' : systemText(system)
  return [
    ...(instructions === '' ? [] : [{ role: 'system', content: instructions }]),
    ...messages.flatMap(({ role, content }, index) => {
      const blocks = typeof content === 'string' ? [{ type: 'text', text: content }] : content
      const where = `messages[${index}].content`
      if (role === 'assistant') return [assistantMessage(blocks, where)]
      return role === 'system' ? [{ role, content: systemText(content) }] : userMessages(blocks, where)
    }),
  ]
}

/** Some clients put a billing header that changes with every request first, which would keep prompts from being cached. */
function systemText(content: Content): string {
  if (typeof content === 'string') return content
  const texts = content.map((part, index) => textOf(part, `system[${index}]`))
  return texts.filter((text) => !text.startsWith('x-anthropic-')).join('\n\n')
}

function userMessages(blocks: readonly Block[], where: string): Message[] {
  const results: Message[] = []
  const texts: string[] = []
  for (const [index, part] of blocks.entries()) {
    const at = `${where}[${index}]`
    if (part.type === 'tool_result') results.push(toolMessage(part, at))
    else texts.push(textOf(part, at))
  }
  const own = { role: 'user', content: texts.join('\n\n') }
  return texts.length > 0 || results.length === 0 ? [...results, own] : results
}

function toolMessage({ tool_use_id, content }: Block, where: string): Message {
  const parts = contentField.safeParse(content ?? '')
  if (!parts.success) throw invalidRequest(`${where}.content: must be a text or a list of blocks.`, where)
  const text =
    typeof parts.data === 'string'
      ? parts.data
      : parts.data.map((part, index) => textOf(part, `${where}.content[${index}]`)).join('\n\n')
  return { role: 'tool', tool_call_id: tool_use_id, content: text }
}

function assistantMessage(blocks: readonly Block[], where: string): Message {
  const texts: string[] = []
  const thoughts: string[] = []
  const calls: object[] = []
  for (const [index, part] of blocks.entries()) {
    if (part.type === 'tool_use') {
      const { id, name, input = {} } = part
      calls.push({ id, type: 'function', function: { name, arguments: input } })
    } else if (part.type === 'thinking') {
      if (typeof part.thinking === 'string') thoughts.push(part.thinking)
    } else if (part.type !== 'redacted_thinking') {
      texts.push(textOf(part, `${where}[${index}]`))
    }
  }
  return {
    role: 'assistant',
    content: texts.join('\n\n'),
    ...(thoughts.length > 0 && { reasoning_content: thoughts.join('\n\n') }),
    ...(calls.length > 0 && { tool_calls: calls }),
  }
}

function textOf({ type, text }: Block, where: string): string {
  if (type === 'text' && typeof text === 'string') return text
  throw invalidRequest(`${where}: blocks of the type ${type} are not supported here.`, where)
}
