/** The items of an answer while they grow, and the events that say so. */
import type { ChatEvent } from '../../../generation/chat-generation'
import { newId } from './response'

/** Whether an item is as the model meant it, or was cut off. */
export type ItemStatus = 'completed' | 'incomplete'

/** An item that grows. Each of its methods gives the events that tell of the step. */
interface OpenItem {
  begin(): object[]
  add(text: string, logprobs: readonly object[]): object
  /** @returns the whole item, too */
  end(status: ItemStatus): { readonly item: object; readonly events: readonly object[] }
}

/** Opens an item for each kind of part, and closes it before the next one. */
export class Items {
  /** Those that are closed. */
  readonly closed: object[] = []
  #open: OpenItem | undefined;

  /** @param logprobs of the text that the event adds */
  *of(event: ChatEvent, logprobs: readonly object[]): Generator<object, void> {
    switch (event.type) {
      case 'content':
        if (!(this.#open instanceof MessageItem)) yield* this.#begin(new MessageItem(this.#next()))
        break
      case 'reasoning':
        if (!(this.#open instanceof ReasoningItem)) yield* this.#begin(new ReasoningItem(this.#next()))
        break
      case 'toolCallBegin':
        yield* this.#begin(new CallItem(this.#next(), event))
        return
      case 'toolCallEnd':
        yield* this.end('completed')
        return
      case 'logprobs':
        return
    }
    if (this.#open !== undefined) yield this.#open.add(event.text, logprobs)
  }

  /** Closes what is open. */
  *end(status: ItemStatus): Generator<object, void> {
    if (this.#open === undefined) return
    const { item, events } = this.#open.end(status)
    const index = this.closed.length
    this.#open = undefined
    this.closed.push(item)
    yield* events
    yield { type: 'response.output_item.done', output_index: index, item }
  }

  *#begin(item: OpenItem): Generator<object, void> {
    yield* this.end('completed')
    this.#open = item
    yield* item.begin()
  }

  /** The index of the item that is about to begin. */
  #next(): number {
    return this.closed.length + (this.#open === undefined ? 0 : 1)
  }
}

/** An item with one part of text. */
abstract class TextItem implements OpenItem {
  readonly #index: number
  readonly #id: string
  #text = ''
  readonly #logprobs: object[] = []

  constructor(index: number, id: string) {
    this.#index = index
    this.#id = id
  }

  /** What the events of its text are called. */
  protected abstract readonly eventName: 'output_text' | 'reasoning_text'
  protected abstract item(id: string, status: ItemStatus | 'in_progress', content: readonly object[]): object
  protected abstract part(text: string, logprobs: readonly object[]): object
  /** Members of events beside the text. */
  protected abstract extras(logprobs: readonly object[]): object

  begin(): object[] {
    const item = this.item(this.#id, 'in_progress', [])
    return [
      { type: 'response.output_item.added', output_index: this.#index, item },
      { type: 'response.content_part.added', ...this.#place(), part: this.part('', []) },
    ]
  }

  add(delta: string, logprobs: readonly object[]): object {
    this.#text += delta
    this.#logprobs.push(...logprobs)
    return { type: `response.${this.eventName}.delta`, ...this.#place(), delta, ...this.extras(logprobs) }
  }

  end(status: ItemStatus) {
    const text = this.#text
    const part = this.part(text, this.#logprobs)
    return {
      item: this.item(this.#id, status, [part]),
      events: [
        { type: `response.${this.eventName}.done`, ...this.#place(), text, ...this.extras(this.#logprobs) },
        { type: 'response.content_part.done', ...this.#place(), part },
      ],
    }
  }

  #place() {
    return { item_id: this.#id, output_index: this.#index, content_index: 0 }
  }
}

class MessageItem extends TextItem {
  protected readonly eventName = 'output_text'

  constructor(index: number) {
    super(index, newId('msg'))
  }

  protected item(id: string, status: string, content: readonly object[]) {
    return { type: 'message', id, status, role: 'assistant', content }
  }

  protected part(text: string, logprobs: readonly object[]) {
    return { type: 'output_text', text, annotations: [], logprobs }
  }

  protected extras(logprobs: readonly object[]) {
    return { logprobs }
  }
}

class ReasoningItem extends TextItem {
  protected readonly eventName = 'reasoning_text'

  constructor(index: number) {
    super(index, newId('rs'))
  }

  protected item(id: string, status: string, content: readonly object[]) {
    return { type: 'reasoning', id, status, summary: [], content }
  }

  protected part(text: string) {
    return { type: 'reasoning_text', text }
  }

  protected extras() {
    return {}
  }
}

class CallItem implements OpenItem {
  readonly #index: number
  readonly #id = newId('fc')
  readonly #call: { readonly id: string; readonly name: string }
  #arguments = ''

  constructor(index: number, call: { readonly id: string; readonly name: string }) {
    this.#index = index
    this.#call = call
  }

  begin(): object[] {
    return [{ type: 'response.output_item.added', output_index: this.#index, item: this.#item('in_progress') }]
  }

  add(delta: string): object {
    this.#arguments += delta
    return { type: 'response.function_call_arguments.delta', ...this.#place(), delta }
  }

  end(status: ItemStatus) {
    const { name } = this.#call
    const done = { type: 'response.function_call_arguments.done', ...this.#place(), name, arguments: this.#arguments }
    return { item: this.#item(status), events: [done] }
  }

  #item(status: string) {
    const { id: call_id, name } = this.#call
    return { type: 'function_call', id: this.#id, call_id, name, arguments: this.#arguments, status }
  }

  #place() {
    return { item_id: this.#id, output_index: this.#index }
  }
}
