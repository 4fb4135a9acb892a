/** HTTP to the Hub: who may see the token, when a connection is lost, and what a refusal means. */
import { quoted } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import { onAbort } from '../options/signal'
import { isPrivate } from './environment'
import { retried, TransientFailure } from './retries'

const MAX_REDIRECTS = 10
const MAX_JSON_BYTES = 16 * 1024 * 1024
const REDIRECTS = [301, 302, 303, 307, 308]
const BUSY = [408, 429, 500, 502, 503, 504]

/** An answer whose body has not been read. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** The body. Leaving the loop closes the connection. @throws TransientFailure if the connection is lost */
  chunks(): AsyncGenerator<Uint8Array, void, void>
  /** Closes the connection. */
  close(): void
}

/** What a request is about, for messages. */
export interface Subject {
  readonly repo: string
  readonly revision: string
  /** A file in the repository. */
  readonly path?: string
}

export class HubClient {
  /**
   * @param endpoint as `hubEndpoint()` gives it
   * @param idle milliseconds without a byte after which a connection is lost
   */
  constructor(
    readonly endpoint: string,
    readonly token: string | undefined,
    readonly idle: number,
  ) {}

  /**
   * Asks for a file, of which `from` bytes are there already. Statuses: 200, or 206 and 416 where `from` is above 0.
   * @throws BillfishError DOWNLOAD_FAILED for a refusal; TransientFailure where another try may help
   */
  async file({ repo, revision, path = '' }: Subject, from: number, signal: AbortSignal): Promise<Answer> {
    const encoded = path.split('/').map(encodeURIComponent).join('/')
    const url = `${this.endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/${encoded}`
    const answer = await this.#get(url, from > 0 ? { range: `bytes=${from}-` } : {}, signal)
    if (answer.status === 200 || (from > 0 && [206, 416].includes(answer.status))) return answer
    answer.close()
    throw this.#refusal(answer, { repo, revision, path })
  }

  /**
   * Asks the Hub's API, as often as needed.
   * @param target a path below the endpoint, or the URL of a further page
   * @throws BillfishError DOWNLOAD_FAILED
   */
  async json(target: string, subject: Subject, signal: AbortSignal): Promise<{ value: unknown; headers: Headers }> {
    const url = new URL(target.startsWith('/') ? this.endpoint + target : target)
    return retried(signal, async () => {
      const answer = await this.#get(url.href, {}, signal)
      if (answer.status !== 200) {
        answer.close()
        throw this.#refusal(answer, subject)
      }
      return { value: parsed(await textOf(answer, url), url), headers: answer.headers }
    })
  }

  /** Follows redirects by hand: the token is for the endpoint alone, wherever that sends us. */
  async #get(first: string, headers: Record<string, string>, signal: AbortSignal): Promise<Answer> {
    const watch = new IdleWatch(this.idle, signal)
    let url = new URL(first)
    try {
      for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
        const isOwn = url.origin === new URL(this.endpoint).origin
        const response = await fetch(url, {
          redirect: 'manual',
          headers: {
            ...headers,
            'user-agent': 'billfish',
            'accept-encoding': 'identity', // ranges count the bytes of the file itself
            ...(isOwn && this.token !== undefined && { authorization: `Bearer ${this.token}` }),
          },
          signal: watch.signal,
        })
        if (!REDIRECTS.includes(response.status)) return answerOf(response, watch, url)
        await response.body?.cancel()
        url = redirected(response.headers.get('location'), url)
      }
    } catch (error) {
      watch.end()
      throw lost(error, url, signal)
    }
    watch.end()
    throw new BillfishError('DOWNLOAD_FAILED', `${first} leads from redirect to redirect, more than ${MAX_REDIRECTS}.`)
  }

  /** The error for a status that is none of success. */
  #refusal({ status, headers }: Answer, { repo, revision, path }: Subject): Error {
    const code = headers.get('x-error-code')
    const page = `${this.endpoint}/${repo}`
    const withToken = 'set HF_TOKEN to a token that may read it, or run hf auth login'
    const failed = (message: string) => new BillfishError('DOWNLOAD_FAILED', message)
    if (BUSY.includes(status)) {
      return new TransientFailure(`${this.endpoint} answers with status ${status}`, retryAfter(headers))
    }
    if (code === 'RevisionNotFound') return failed(`${repo} has no revision ${revision}: see ${page}/tree/main.`)
    if (code === 'EntryNotFound') return failed(`${repo} has no file ${path} at revision ${revision}.`)
    if (code === 'GatedRepo' || status === 403) {
      const asking = this.token === undefined ? withToken : 'use the token of an account that has access'
      return failed(`${repo} is gated: accept its conditions at ${page}, and ${asking}.`)
    }
    if (code === 'RepoNotFound' || status === 404 || status === 401) {
      const asking = this.token === undefined ? withToken : 'check that its token (HF_TOKEN) is valid and may read it'
      return failed(`There is no model ${repo} on ${this.endpoint}, or it is private: check its name, or ${asking}.`)
    }
    return failed(`${this.endpoint} answers with status ${status} to the request for ${path ?? repo}.`)
  }
}

/** Ends a request on which nothing has come for a while. */
class IdleWatch {
  readonly #controller = new AbortController()
  readonly #stopListening: () => void
  readonly #timer: NodeJS.Timeout

  constructor(idle: number, signal: AbortSignal) {
    signal.throwIfAborted()
    this.#stopListening = onAbort(signal, () => this.#controller.abort(signal.reason))
    this.#timer = setTimeout(() => {
      this.#controller.abort(new TransientFailure(`nothing has come for ${idle / 1000} seconds`))
    }, idle)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  touch(): void {
    this.#timer.refresh()
  }

  /** @param isCut whether the connection is still open and no longer needed */
  end(isCut = false): void {
    clearTimeout(this.#timer)
    this.#stopListening()
    if (isCut) this.#controller.abort()
  }
}

function answerOf(response: Response, watch: IdleWatch, url: URL): Answer {
  return {
    status: response.status,
    headers: response.headers,
    close: () => watch.end(true),
    async *chunks() {
      let isWhole = false
      try {
        watch.touch()
        for await (const chunk of response.body ?? []) {
          watch.touch()
          yield chunk
          watch.touch() // the reader may be slow
        }
        isWhole = true
      } catch (error) {
        throw lost(error, url, watch.signal)
      } finally {
        watch.end(!isWhole)
      }
    },
  }
}

/** What fetch() throws, as a failure that another try may not have; certificates stay as they are. */
function lost(error: unknown, url: URL, signal: AbortSignal): unknown {
  if (error instanceof BillfishError) return error
  if (signal.aborted && !(signal.reason instanceof TransientFailure)) return signal.reason
  const cause = error instanceof TypeError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined
  const { message } = cause?.message ? cause : (error as Error)
  const said = `${url.host} cannot be reached: ${message || cause?.code || 'the connection failed'}`
  if (/CERT|SIGNATURE|SSL/.test(cause?.code ?? '')) {
    return new BillfishError('DOWNLOAD_FAILED', `${said}. NODE_EXTRA_CA_CERTS names further certificates to trust.`, {
      cause: error,
    })
  }
  return new TransientFailure(said, undefined, { cause: error })
}

function redirected(location: string | null, from: URL): URL {
  const url = location !== null && URL.canParse(location, from.href) ? new URL(location, from) : undefined
  if (url !== undefined && /^https?:$/.test(url.protocol) && (isPrivate(url) || !isPrivate(from))) return url
  throw new BillfishError(
    'DOWNLOAD_FAILED',
    `${from.host} redirects to ${quoted(location ?? '')}, which is not followed.`,
  )
}

/** Milliseconds of a Retry-After header, in seconds or as a date. */
function retryAfter(headers: Headers): number | undefined {
  const given = headers.get('retry-after')
  if (given === null) return undefined
  const wait = /^\d+$/.test(given) ? Number(given) * 1000 : Date.parse(given) - Date.now()
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined
}

async function textOf(answer: Answer, url: URL): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of answer.chunks()) {
    bytes += chunk.length
    if (bytes > MAX_JSON_BYTES) {
      throw new BillfishError('DOWNLOAD_FAILED', `${url.href} answers with more than ${MAX_JSON_BYTES} bytes.`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parsed(text: string, url: URL): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new BillfishError('DOWNLOAD_FAILED', `${url.href} answers with something that is not JSON.`, { cause })
  }
}
