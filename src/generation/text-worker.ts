import { dirname, join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { BillfishError } from '../errors'
import { checkLength, type LongText, MAX_TEXT_BYTES, type TextLimit } from './long-text'
import { type Rendering, THREAD_LIMITS } from './template-rendering'
import { Deadline, encodingLimits, loadingLimits, type TimeLimits } from './time-limits'

/** Every kind of work that the thread does: what it is given, and what it answers. text-worker-thread.ts does it. */
export interface TextWork {
  /** Loads the tokenizer, if that has not happened yet. */
  load: { input: null; output: null }
  encode: { input: LongText; output: Int32Array<ArrayBuffer> }
  /** Renders a chat template. */
  render: { input: Rendering; output: string }
}

/** Kinds of work that need the tokenizer: the thread loads it before the first of them. */
const NEEDS_TOKENIZER: ReadonlySet<keyof TextWork> = new Set(['encode'])

/** A message to the thread. */
export type TextTask = {
  [Kind in keyof TextWork]: { readonly kind: Kind; readonly input: TextWork[Kind]['input'] }
}[keyof TextWork]

/** A message of the thread: first that it has started, then one answer to each task. */
export type TextReply =
  | { readonly started: true; readonly schedule: string | undefined }
  | { readonly output: TextWork[keyof TextWork]['output'] }
  | { readonly error: { readonly code: BillfishError['code']; readonly message: string } }

/** Work under way. */
export interface Work<Output> {
  readonly output: Promise<Output>
  /** Rejects `output` with `error`, if it is still awaited, and ends the thread, if it has begun with it. */
  cancel(error: unknown): void
}

interface Request {
  readonly task: TextTask
  readonly terms: TimeLimits
  /** Rejects once the work has been cancelled. */
  readonly cancelled: Promise<never>
  isCancelled: boolean
  cancel(error: unknown): void
  resolve(output: unknown): void
  reject(error: unknown): void
}

interface Thread {
  readonly worker: Worker
  /** Whether its modules have been loaded: only then does the time of a task begin. */
  started: boolean
  /** Whether it has loaded the tokenizer. */
  loaded: boolean
  /** Its {@link ownSchedstatPath}. */
  schedule: string | undefined
}

/**
 * MiB of JavaScript objects that the thread may hold: several times what the largest vocabularies in use take.
 *
 * This ends what grows by small pieces. An allocation of more than 16 MiB at once that goes beyond the limit ends the
 * whole process instead (V8 leaves no more headroom than that), so work has to bound the size of its strings and arrays
 * by itself.
 */
const HEAP_MIB = 1024
/** Milliseconds between two looks at work that is nearly overdue. */
const LEAST_WAIT = 5
/** How long a thread may be overdue with ending a template by itself. */
const RENDERING_RESERVE = 400
/** Where it is not known how large the tokenizer's file is, it may be as large as one can be. */
const UNKNOWN_FILE_BYTES = 64 * 1024 * 1024

/** Compiled, since a thread starts from a file that Node.js itself can run; found from src/ and from dist/ alike. */
const WORKER_FILE = join(__dirname, '..', '..', 'dist', 'generation', 'text-worker-thread.js')

/** Ends the threads of workers that nobody holds any more. */
const abandoned = new FinalizationRegistry<Worker>((worker) => void worker.terminate())

/**
 * Does on a thread what a checkpoint's tokenizer and templates could make last for ever: a piece of work that takes
 * longer than its terms allow, or is cancelled, ends the thread, and the next one starts a new one.
 *
 * Work is handed over one piece at a time: should the thread die, it takes no other with it. The thread starts with the
 * first piece and stays until {@link close}. It keeps the process alive while a piece is awaited, and only then.
 */
export class TextWorker {
  readonly #limit: TextLimit
  readonly #waiting: Request[] = []
  #active: Request | undefined
  #thread: Thread | undefined
  #closed: BillfishError | undefined

  /**
   * @param tokenizer its file, in the checkpoint's directory, and how long its texts may be
   */
  constructor(tokenizer: Partial<TextLimit> & Pick<TextLimit, 'file'>) {
    const { file, fileBytes = UNKNOWN_FILE_BYTES, growth = 1, longestText = MAX_TEXT_BYTES } = tokenizer
    // The working directory may be another one by the first long text.
    this.#limit = { file: resolve(file), fileBytes, growth, longestText }
  }

  /** The error that it was closed with. */
  get closed(): BillfishError | undefined {
    return this.#closed
  }

  /** Pieces of work that somebody waits for. */
  get pending(): number {
    return this.#waiting.length + (this.#active?.isCancelled === false ? 1 : 0)
  }

  /** The thread, if there is one. @internal */
  get thread(): Worker | undefined {
    return this.#thread?.worker
  }

  /**
   * Hands work to the thread. It rejects with INVALID_CHECKPOINT, naming the file, if it takes longer than
   * `terms.milliseconds` or more memory than the thread may have; with INTERNAL if the thread dies or cannot be started;
   * else with what the work itself throws.
   * @throws BillfishError the error given to {@link close}
   */
  run<Kind extends keyof TextWork>(
    kind: Kind,
    input: TextWork[Kind]['input'],
    terms: TimeLimits,
  ): Work<TextWork[Kind]['output']> {
    if (this.#closed) throw this.#closed
    const { promise: output, ...settle } = withResolvers<unknown>()
    const { promise: cancelled, reject: cancel } = withResolvers<never>()
    cancelled.catch(() => {}) // of work that nobody cancels, nobody waits for it
    const request: Request = {
      task: { kind, input } as TextTask,
      terms,
      cancelled,
      isCancelled: false,
      cancel,
      ...settle,
    }
    this.#waiting.push(request)
    this.#keepProcess()
    queueMicrotask(() => this.#next()) // not at once: work that is cancelled at once needs no thread
    return {
      output: output as Promise<TextWork[Kind]['output']>,
      cancel: (error) => this.#cancel(request, error),
    }
  }

  /**
   * The token ids of a text.
   * @throws BillfishError INVALID_OPTION or INVALID_CHECKPOINT if it is too long for the tokenizer
   */
  encode(input: LongText): Work<Int32Array> {
    checkLength(input.text, this.#limit)
    return this.run('encode', input, {
      ...encodingLimits(Buffer.byteLength(input.text)),
      file: this.#limit.file,
      what: `tokenizing a text of ${input.text.length} characters`,
    })
  }

  /** The text that a chat template makes. */
  render(input: Rendering): Work<string> {
    return this.run('render', input, {
      // The budget ends it first.
      milliseconds: THREAD_LIMITS.milliseconds + RENDERING_RESERVE,
      wallMillisecondsUnderLoad: THREAD_LIMITS.milliseconds + RENDERING_RESERVE,
      computing: THREAD_LIMITS.milliseconds + RENDERING_RESERVE,
      file: input.path,
      what: 'rendering the chat template',
    })
  }

  /** Starts the thread and loads the tokenizer, so that the first text need not wait for it. */
  load(): Work<null> {
    return this.run('load', null, this.#loadingTerms())
  }

  /** Rejects what is under way with `error`, and all that is to come; resolves when the thread has ended. */
  async close(error: BillfishError): Promise<void> {
    this.#closed ??= error
    for (const request of this.#waiting.splice(0)) request.reject(error)
    const thread = this.#thread
    if (this.#active) this.#cancel(this.#active, error)
    this.#stop()
    await thread?.worker.terminate()
  }

  #loadingTerms(): TimeLimits {
    const { file, fileBytes } = this.#limit
    return { ...loadingLimits(fileBytes), file, what: 'loading the tokenizer' }
  }

  #cancel(request: Request, error: unknown): void {
    request.reject(error)
    const index = this.#waiting.indexOf(request)
    if (index >= 0) {
      this.#waiting.splice(index, 1)
    } else if (this.#active === request) {
      request.isCancelled = true
      request.cancel(error)
      this.#stop()
    }
    this.#keepProcess()
  }

  #keepProcess(): void {
    const { worker } = this.#thread ?? {}
    if (this.pending > 0) worker?.ref()
    else worker?.unref()
  }

  /** Hands the next piece of work over, if the thread has none. */
  #next(): void {
    if (this.#active) return
    const request = this.#waiting.shift()
    if (request) void this.#perform(request)
    this.#keepProcess()
  }

  async #perform(request: Request): Promise<void> {
    this.#active = request
    try {
      const thread = this.#running()
      if (NEEDS_TOKENIZER.has(request.task.kind) && !thread.loaded) {
        await answer(thread, { kind: 'load', input: null }, this.#loadingTerms(), request.cancelled)
        thread.loaded = true
      }
      const output = await answer(thread, request.task, request.terms, request.cancelled)
      if (request.task.kind === 'load') thread.loaded = true
      request.resolve(output)
    } catch (error) {
      if (error instanceof ThreadLost) this.#stop()
      request.reject(error instanceof ThreadLost ? error.cause : error)
    } finally {
      // Only what is awaited may refer to this object from a thread, or nobody would ever find it abandoned.
      this.#active = undefined
      this.#next()
    }
  }

  /** The thread, started if there is none or if it has ended while it had nothing to do. */
  #running(): Thread {
    if (this.#thread !== undefined && this.#thread.worker.threadId >= 0) return this.#thread
    let worker: Worker
    try {
      worker = new Worker(WORKER_FILE, {
        name: 'billfish text',
        workerData: dirname(this.#limit.file),
        resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
      })
    } catch (cause) {
      throw threadFailed('cannot be started', cause, "under Node.js's permission model, allow it with --allow-worker")
    }
    worker.on('error', () => {}) // between pieces of work there is nobody to tell; during one, answer() does
    abandoned.register(this, worker, worker)
    this.#thread = { worker, started: false, loaded: false, schedule: undefined }
    return this.#thread
  }

  #stop(): void {
    if (this.#thread === undefined) return
    const { worker } = this.#thread
    this.#thread = undefined
    abandoned.unregister(worker)
    void worker.terminate()
  }
}

/** The thread has gone, or has to go; `cause` is the error for who waited. */
class ThreadLost extends Error {
  override readonly cause: BillfishError

  constructor(cause: BillfishError) {
    super(cause.message)
    this.cause = cause
  }
}

/** The thread's answer to a task. @throws ThreadLost; what `cancelled` rejects with; what the work threw */
async function answer(
  thread: Thread,
  task: TextTask,
  terms: TimeLimits,
  cancelled: Promise<never>,
): Promise<TextWork[keyof TextWork]['output']> {
  const { worker } = thread
  const { promise, resolve, reject } = withResolvers<TextWork[keyof TextWork]['output']>()
  let timer: NodeJS.Timeout | undefined
  let settled = false
  const begin = () => {
    worker.postMessage(task)
    const deadline = new Deadline(terms, thread.schedule)
    const check = () => {
      if (settled) return
      if (deadline.remaining <= 0) reject(new ThreadLost(deadline.error()))
      else wait()
    }
    // After setImmediate(): an answer may have come while something else held this event loop.
    const wait = () => {
      timer = setTimeout(() => setImmediate(check), Math.max(deadline.remaining, LEAST_WAIT))
    }
    wait()
  }
  const onMessage = (reply: TextReply) => {
    if ('started' in reply) {
      thread.started = true
      thread.schedule = reply.schedule
      begin()
    } else if ('error' in reply) {
      reject(new BillfishError(reply.error.code, reply.error.message))
    } else {
      resolve(reply.output)
    }
  }
  const onError = (cause: NodeJS.ErrnoException) =>
    reject(
      new ThreadLost(cause.code === 'ERR_WORKER_OUT_OF_MEMORY' ? tooLarge(terms) : threadFailed('has failed', cause)),
    )
  const onExit = (code: number) => reject(new ThreadLost(threadFailed('has ended', new Error(`exit code ${code}`))))
  worker.on('message', onMessage).on('error', onError).on('exit', onExit)
  if (thread.started) begin()
  try {
    return await Promise.race([promise, cancelled])
  } finally {
    settled = true
    clearTimeout(timer)
    worker.off('message', onMessage).off('error', onError).off('exit', onExit)
  }
}

function tooLarge({ file, what }: TimeLimits): BillfishError {
  return invalidCheckpoint(
    `${file}: ${what} took more than ${HEAP_MIB} MiB of memory and was ended: compare the file with the released checkpoint`,
  )
}

function threadFailed(how: string, cause: unknown, advice = 'the next long text starts a new one'): BillfishError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new BillfishError('INTERNAL', `The thread that works on texts ${how} (${message}); ${advice}.`, { cause })
}

/** Promise.withResolvers(), which Node.js 20 has not. */
function withResolvers<Value>() {
  let resolve!: (value: Value) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<Value>((res, rej) => {
    resolve = res
    reject = rej
  })
  return { promise, resolve, reject }
}
