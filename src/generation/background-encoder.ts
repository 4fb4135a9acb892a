import { join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { BillfishError } from '../errors'

/**
 * Bytes of UTF-8 up to which a text is encoded on the event loop. So many take the tokenizers 2 to 6 milliseconds: two
 * for prose, six for the dense tokens of base64 or digits. Characters would be a worse measure, since one of Chinese
 * costs three times one of English.
 */
export const MAX_SYNCHRONOUS_BYTES = 4096

/** Whether encoding `text` would hold the event loop for too long. */
export function isLong(text: string): boolean {
  return text.length > MAX_SYNCHRONOUS_BYTES || Buffer.byteLength(text) > MAX_SYNCHRONOUS_BYTES
}

/** A text that is too long to be encoded on the event loop. */
export interface LongText {
  readonly text: string
  readonly addSpecialTokens: boolean
}

/** What the worker answers to a {@link LongText}. */
export type EncodingReply =
  | { readonly ids: Int32Array<ArrayBuffer> }
  | { readonly error: { readonly code: BillfishError['code']; readonly message: string } }

/** A long text on its way to token ids. */
export interface Encoding {
  readonly ids: Promise<Int32Array>
  /** Rejects `ids` with `error`, if they are still awaited. */
  cancel(error: unknown): void
}

interface Request {
  readonly input: LongText
  cancelled: boolean
  resolve(ids: Int32Array): void
  reject(error: unknown): void
}

/** Compiled, since a thread starts from a file that Node.js itself can run; found from src/ and from dist/ alike. */
const WORKER_FILE = join(__dirname, '..', '..', 'dist', 'generation', 'encoding-worker.js')

/** Ends the threads of encoders that nobody holds any more. */
const abandoned = new FinalizationRegistry<Worker>((worker) => void worker.terminate())

/**
 * Encodes long texts on a thread of its own, which loads the tokenizer of `directory` for itself. The thread starts with
 * the first text and stays until {@link close}. It keeps the process alive while a text is awaited, and only then.
 *
 * Texts are handed over one at a time: should the thread die, it takes no other text with it, and the next one starts a
 * new thread.
 */
export class BackgroundEncoder {
  private readonly directory: string
  private readonly waiting: Request[] = []
  private active: Request | undefined
  private worker: Worker | undefined
  private closed: BillfishError | undefined

  constructor(directory: string) {
    this.directory = resolve(directory) // the working directory may be another one by the first long text
  }

  /** Texts that somebody waits for. */
  get pending(): number {
    return this.waiting.length + (this.active && !this.active.cancelled ? 1 : 0)
  }

  /**
   * The token ids of a text. They reject with INTERNAL if the thread dies or cannot be started, and with
   * INVALID_CHECKPOINT if the tokenizer's files cannot be read any more.
   * @throws BillfishError the error given to {@link close}
   */
  encode(input: LongText): Encoding {
    if (this.closed) throw this.closed
    let request!: Request
    const ids = new Promise<Int32Array>((resolve, reject) => {
      request = { input, cancelled: false, resolve, reject }
    })
    this.waiting.push(request)
    this.keepProcess()
    queueMicrotask(() => this.next()) // not at once: a text that is cancelled at once needs no thread
    return { ids, cancel: (error) => this.cancel(request, error) }
  }

  /** Rejects what is under way with `error`, and all that is to come; resolves when the thread has ended. */
  async close(error: BillfishError): Promise<void> {
    this.closed ??= error
    for (const request of this.waiting.splice(0)) request.reject(error)
    this.active?.reject(error)
    await this.stop()
  }

  private cancel(request: Request, error: unknown): void {
    const index = this.waiting.indexOf(request)
    if (index >= 0) this.waiting.splice(index, 1)
    // The thread cannot be interrupted without losing its tokenizer: it finishes a text that nobody wants any more.
    request.cancelled = true
    request.reject(error)
    this.keepProcess()
  }

  private keepProcess(): void {
    if (this.pending > 0) this.worker?.ref()
    else this.worker?.unref()
  }

  /** Hands the next text over, if the thread has none. */
  private next(): void {
    if (this.active) return
    const request = this.waiting.shift()
    if (request) {
      try {
        this.hand(request, this.running())
      } catch (cause) {
        const advice = "under Node.js's permission model, allow it with --allow-worker"
        request.reject(threadFailed('cannot be started', cause, advice))
        this.next()
      }
    }
    this.keepProcess()
  }

  private hand(request: Request, worker: Worker): void {
    this.active = request
    const finish = (): void => {
      // An idle thread must not hold the encoder, or nobody would ever find it abandoned.
      worker.off('message', onMessage).off('error', onError).off('exit', onExit)
      this.active = undefined
      this.next()
    }
    const fail = (error: BillfishError): void => {
      request.reject(error)
      void this.stop()
      finish()
    }
    const onMessage = (reply: EncodingReply): void => {
      if ('error' in reply) {
        fail(new BillfishError(reply.error.code, reply.error.message))
      } else {
        request.resolve(reply.ids)
        finish()
      }
    }
    const onError = (cause: unknown): void => fail(threadFailed('has failed', cause))
    const onExit = (code: number): void => fail(threadFailed('has ended', new Error(`exit code ${code}`)))
    worker.on('message', onMessage).on('error', onError).on('exit', onExit)
    worker.postMessage(request.input)
  }

  /** The thread, started if there is none or if it has ended while it had nothing to do. */
  private running(): Worker {
    if (this.worker !== undefined && this.worker.threadId >= 0) return this.worker
    const worker = new Worker(WORKER_FILE, { name: 'billfish tokenizer', workerData: this.directory })
    worker.on('error', () => {}) // between texts there is nobody to tell; during one, onError does
    abandoned.register(this, worker, worker)
    this.worker = worker
    return worker
  }

  private async stop(): Promise<void> {
    const { worker } = this
    if (worker === undefined) return
    this.worker = undefined
    abandoned.unregister(worker)
    await worker.terminate()
  }
}

function threadFailed(how: string, cause: unknown, advice = 'the next long text starts a new one'): BillfishError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new BillfishError('INTERNAL', `The thread that tokenizes long texts ${how} (${message}); ${advice}.`, {
    cause,
  })
}
