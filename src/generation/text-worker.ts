import { dirname, join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import { checkLength, type LongText, MAX_TEXT_BYTES, type TextLimit } from './long-text'
import { type Rendering, THREAD_LIMITS } from './template-rendering'
import { Deadline, encodingLimits, loadingLimits, type TimeLimits } from './time-limits'

/** Inputs and outputs of every kind of work, performed by text-worker-thread.ts. */
export interface TextWork {
  /** Loads the tokenizer unless it is loaded already. */
  load: { input: null; output: null }
  encode: { input: LongText; output: Int32Array<ArrayBuffer> }
  /** Renders a chat template. */
  render: { input: Rendering; output: string }
}

/** Kinds of work that need the tokenizer, which the thread loads before the first of them. */
const NEEDS_TOKENIZER: ReadonlySet<keyof TextWork> = new Set(['encode'])

/** A message to the thread. */
export type TextTask = {
  [Kind in keyof TextWork]: { readonly kind: Kind; readonly input: TextWork[Kind]['input'] }
}[keyof TextWork]

/** A message from the thread: first that it has started, then one answer per task. */
export type TextReply =
  | { readonly started: true; readonly schedule: string | undefined }
  | { readonly output: TextWork[keyof TextWork]['output'] }
  | { readonly error: { readonly code: BillfishError['code']; readonly message: string } }

/** Work in progress. */
export interface Work<Output> {
  readonly output: Promise<Output>
  /** Rejects `output` with `error` if it is pending, and terminates the thread if it is working on it. */
  cancel(error: unknown): void
}

interface Request {
  readonly task: TextTask
  readonly limits: TimeLimits
  /** Rejects when the work is cancelled. */
  readonly cancelled: Promise<never>
  isCancelled: boolean
  cancel(error: unknown): void
  resolve(output: unknown): void
  reject(error: unknown): void
}

interface Thread {
  readonly worker: Worker
  /** Whether its modules are loaded; the time of a task starts only then. */
  started: boolean
  /** Whether it has loaded the tokenizer. */
  loaded: boolean
  /** Result of its {@link ownSchedstatPath}. */
  schedule: string | undefined
}

/**
 * Heap limit of the thread in MiB: several times what the largest vocabularies need.
 *
 * This catches gradual growth. A single allocation of more than 16 MiB beyond the limit terminates the whole process
 * instead (V8 has no more headroom), so work must bound the size of its own strings and arrays.
 */
const HEAP_MIB = 1024
/** Minimum milliseconds between checks of work that is nearly overdue. */
const MIN_WAIT = 5
/** Grace period in milliseconds for a template that should have ended itself. */
const RENDERING_GRACE = 400
/** Assumed size of an unknown tokenizer file: the maximum. */
const UNKNOWN_FILE_BYTES = 64 * 1024 * 1024

/** Must be compiled, because a thread starts from a file that Node.js can run; the path works from src/ and dist/. */
const WORKER_FILE = join(__dirname, '..', '..', 'dist', 'generation', 'text-worker-thread.js')

/** Terminates threads of garbage-collected workers. */
const abandoned = new FinalizationRegistry<Worker>((worker) => void worker.terminate())

/**
 * Runs on a thread what the tokenizer and templates of a checkpoint could make run forever. Work that exceeds its
 * limits or is cancelled terminates the thread; the next work starts a new one.
 *
 * Work is handed over one item at a time, so a dying thread takes nothing else with it. The thread starts with the
 * first item and lives until {@link close}. It keeps the process alive only while work is awaited.
 */
export class TextWorker {
  readonly #limit: TextLimit
  readonly #waiting: Request[] = []
  #active: Request | undefined
  #thread: Thread | undefined
  #closed: BillfishError | undefined

  /** @param tokenizer its file, in the checkpoint directory, and the limits of its texts */
  constructor(tokenizer: Partial<TextLimit> & Pick<TextLimit, 'file'>) {
    const { file, fileBytes = UNKNOWN_FILE_BYTES, growth = 1, maxTextBytes = MAX_TEXT_BYTES } = tokenizer
    // Resolve now: the working directory may change.
    this.#limit = { file: resolve(file), fileBytes, growth, maxTextBytes }
  }

  /** The error it was closed with. */
  get closed(): BillfishError | undefined {
    return this.#closed
  }

  /** Number of awaited work items. */
  get pending(): number {
    return this.#waiting.length + (this.#active?.isCancelled === false ? 1 : 0)
  }

  /** The thread, if any. @internal */
  get thread(): Worker | undefined {
    return this.#thread?.worker
  }

  /**
   * Hands work to the thread. It rejects with INVALID_CHECKPOINT, naming the file, if it exceeds its time limits or the
   * memory of the thread; with INTERNAL if the thread dies or cannot be started; else with the error of the work.
   * @throws BillfishError the error given to {@link close}
   */
  run<Kind extends keyof TextWork>(
    kind: Kind,
    input: TextWork[Kind]['input'],
    limits: TimeLimits,
  ): Work<TextWork[Kind]['output']> {
    if (this.#closed) throw this.#closed
    const { promise: output, ...settle } = withResolvers<unknown>()
    const { promise: cancelled, reject: cancel } = withResolvers<never>()
    cancelled.catch(() => {}) // not awaited unless cancelled
    const request: Request = {
      task: { kind, input } as TextTask,
      limits,
      cancelled,
      isCancelled: false,
      cancel,
      ...settle,
    }
    this.#waiting.push(request)
    this.#keepProcess()
    queueMicrotask(() => this.#next()) // deferred: work cancelled immediately needs no thread
    return {
      output: output as Promise<TextWork[Kind]['output']>,
      cancel: (error) => this.#cancel(request, error),
    }
  }

  /**
   * Encodes a text.
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

  /** Renders a chat template. */
  render(input: Rendering): Work<string> {
    return this.run('render', input, {
      // The budget of the template ends it first.
      milliseconds: THREAD_LIMITS.milliseconds + RENDERING_GRACE,
      wallMillisecondsUnderLoad: THREAD_LIMITS.milliseconds + RENDERING_GRACE,
      cpuMilliseconds: THREAD_LIMITS.milliseconds + RENDERING_GRACE,
      file: input.path,
      what: 'rendering the chat template',
    })
  }

  /** Starts the thread and loads the tokenizer ahead of the first text. */
  load(): Work<null> {
    return this.run('load', null, this.#loadingTerms())
  }

  /** Rejects pending and future work with `error`; resolves when the thread has ended. */
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

  /** Hands over the next item if the thread is idle. */
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
      const output = await answer(thread, request.task, request.limits, request.cancelled)
      if (request.task.kind === 'load') thread.loaded = true
      request.resolve(output)
    } catch (error) {
      if (error instanceof ThreadLost) this.#stop()
      request.reject(error instanceof ThreadLost ? error.cause : error)
    } finally {
      // Only awaited work may reference this object, or it would never be garbage-collected.
      this.#active = undefined
      this.#next()
    }
  }

  /** The thread; started if there is none or it ended while idle. */
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
    worker.on('error', () => {}) // reported by answer() during work; nobody to report to otherwise
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

/** The thread is gone or must go; `cause` is the error for the caller. */
class ThreadLost extends Error {
  override readonly cause: BillfishError

  constructor(cause: BillfishError) {
    super(cause.message)
    this.cause = cause
  }
}

/** Sends a task and awaits the answer. @throws ThreadLost; the rejection of `cancelled`; errors of the work */
async function answer(
  thread: Thread,
  task: TextTask,
  limits: TimeLimits,
  cancelled: Promise<never>,
): Promise<TextWork[keyof TextWork]['output']> {
  const { worker } = thread
  const { promise, resolve, reject } = withResolvers<TextWork[keyof TextWork]['output']>()
  let timer: NodeJS.Timeout | undefined
  let settled = false
  const begin = () => {
    worker.postMessage(task)
    const deadline = new Deadline(limits, thread.schedule)
    const check = () => {
      if (settled) return
      if (deadline.remaining <= 0) reject(new ThreadLost(deadline.error()))
      else wait()
    }
    // Via setImmediate(): an answer may have arrived while this event loop was blocked.
    const wait = () => {
      timer = setTimeout(() => setImmediate(check), Math.max(deadline.remaining, MIN_WAIT))
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
      new ThreadLost(cause.code === 'ERR_WORKER_OUT_OF_MEMORY' ? tooLarge(limits) : threadFailed('has failed', cause)),
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
    `${file}: ${what} took more than ${HEAP_MIB} MiB of memory and was terminated; compare the file with the released checkpoint`,
  )
}

function threadFailed(how: string, cause: unknown, advice = 'the next long text starts a new one'): BillfishError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new BillfishError('INTERNAL', `The text worker thread ${how} (${message}); ${advice}.`, { cause })
}

/** Promise.withResolvers(), which Node.js 20 lacks. */
function withResolvers<Value>() {
  let resolve!: (value: Value) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<Value>((res, rej) => {
    resolve = res
    reject = rej
  })
  return { promise, resolve, reject }
}
