/** What the page asks its server, and how it says who it is. */
import type { Status } from '../server/status'
import { type AnswerPart, answerParts } from './answer-parts'

/** An answer of the server that is an error, in its own words. */
export class ApiError extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export interface Message {
  readonly role: 'user' | 'assistant'
  readonly content: string
}

/** Where the server is: the page may be mounted at a path, with or without a slash at its end. */
const base = location.pathname.replace(/\/*$/, '/')

/** @param key empty where none is needed */
export class Api {
  readonly #key: string

  constructor(key: string) {
    this.#key = key
  }

  /** @throws ApiError; TypeError where no server answers */
  async status(signal: AbortSignal): Promise<Status> {
    const response = await this.#fetch('status.json', { signal })
    return (await response.json()) as Status
  }

  /**
   * Streams an answer. @throws ApiError, also for an error in the middle of it; TypeError where no server answers; the
   * signal's reason
   */
  async *chat(model: string, messages: readonly Message[], signal: AbortSignal): AsyncGenerator<AnswerPart> {
    const body = JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } })
    const response = await this.#fetch('v1/chat/completions', { method: 'POST', body, signal })
    yield* answerParts((response.body as ReadableStream<Uint8Array<ArrayBuffer>>).pipeThrough(new TextDecoderStream()))
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = { 'content-type': 'application/json', ...(this.#key && { authorization: `Bearer ${this.#key}` }) }
    const response = await fetch(base + path, { ...init, headers })
    if (response.ok) return response
    throw new ApiError(response.status, messageOf(await response.text()) ?? `${response.status} ${response.statusText}`)
  }
}

/** The server's own words; undefined for what a proxy says. */
function messageOf(body: string): string | undefined {
  try {
    return (JSON.parse(body) as { error?: { message?: string } }).error?.message
  } catch {
    return undefined
  }
}
