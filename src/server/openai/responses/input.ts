/** From items of the Responses API to messages as chat templates know them. */
import { z } from 'zod'
import type { ChatMessage } from '../../../generation/chat-message'
import { invalidRequest } from '../../request-error'
import { field, parseRequest } from '../fields'

const MAX_ITEMS = 10_000
const MAX_PARTS = 10_000

const item = z.looseObject({ type: field(z.string()) })
export const inputField = z.union([z.string(), z.array(item).min(1).max(MAX_ITEMS)])

const part = z.looseObject({ type: z.string() })
const contentField = z.union([z.string(), z.array(part).max(MAX_PARTS)])
type Content = z.output<typeof contentField>

const messageItem = z.looseObject({
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content: contentField,
})
const callItem = z.looseObject({ call_id: z.string(), name: z.string(), arguments: z.string() })
const outputItem = z.looseObject({ call_id: z.string(), output: contentField })
const reasoningItem = z.looseObject({
  content: field(z.array(z.looseObject({ type: z.literal('reasoning_text'), text: z.string() })).max(MAX_PARTS)),
})

/** What the model said in a turn, which is one message for chat templates, and several items here. */
interface Turn {
  readonly texts: string[]
  readonly thoughts: string[]
  readonly calls: object[]
}

/** @throws RequestError 400 for items that are not understood */
export function chatMessages(input: z.output<typeof inputField>, instructions: string | undefined): ChatMessage[] {
  const messages = typeof input === 'string' ? [{ role: 'user', content: input }] : itemMessages(input)
  return instructions === undefined || instructions === '' ? messages : instructed(messages, instructions)
}

/** Many templates take one message of the system's, at the start: instructions and such a message become one. */
function instructed(messages: readonly ChatMessage[], instructions: string): ChatMessage[] {
  const [first, ...rest] = messages
  if (first?.role !== 'system') return [{ role: 'system', content: instructions }, ...messages]
  return [{ role: 'system', content: `${instructions}\n\n${first.content}` }, ...rest]
}

function itemMessages(items: readonly z.output<typeof item>[]): ChatMessage[] {
  const messages: ChatMessage[] = []
  let turn: Turn | undefined
  const open = () => {
    turn ??= { texts: [], thoughts: [], calls: [] }
    return turn
  }
  const close = () => {
    if (turn !== undefined) messages.push(turnMessage(turn))
    turn = undefined
  }
  for (const [index, given] of items.entries()) {
    const where = `input[${index}]`
    switch (given.type ?? 'message') {
      case 'message': {
        const { role, content } = parseRequest(messageItem, given, where)
        const text = textOf(content, `${where}.content`)
        if (role === 'assistant') {
          open().texts.push(text)
          break
        }
        close()
        messages.push({ role: role === 'developer' ? 'system' : role, content: text })
        break
      }
      case 'function_call': {
        const { call_id: id, name, arguments: json } = parseRequest(callItem, given, where)
        open().calls.push({ id, type: 'function', function: { name, arguments: json } })
        break
      }
      case 'function_call_output': {
        const { call_id, output } = parseRequest(outputItem, given, where)
        close()
        messages.push({ role: 'tool', tool_call_id: call_id, content: textOf(output, `${where}.output`) })
        break
      }
      case 'reasoning': {
        const { content = [] } = parseRequest(reasoningItem, given, where)
        if (content.length > 0) open().thoughts.push(...content.map(({ text }) => text))
        break
      }
      case 'item_reference':
        throw invalidRequest(`${where}: this server stores nothing; send the item itself.`, where)
      default:
        throw invalidRequest(`${where}: items of the type ${given.type} are not supported here.`, where)
    }
  }
  close()
  return messages
}

function turnMessage({ texts, thoughts, calls }: Turn): ChatMessage {
  return {
    role: 'assistant',
    content: texts.join('\n\n'),
    ...(thoughts.length > 0 && { reasoning_content: thoughts.join('\n\n') }),
    ...(calls.length > 0 && { tool_calls: calls }),
  }
}

const TEXT_PARTS = ['input_text', 'output_text', 'text']

function textOf(content: Content, where: string): string {
  if (typeof content === 'string') return content
  const texts = content.map(({ type, text, refusal }, index) => {
    if (TEXT_PARTS.includes(type) && typeof text === 'string') return text
    if (type === 'refusal' && typeof refusal === 'string') return refusal
    const at = `${where}[${index}]`
    throw invalidRequest(`${at}: parts of the type ${type} are not supported here; send text.`, at)
  })
  return texts.join('')
}
