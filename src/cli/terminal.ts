import { open, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { Presets, SingleBar } from 'cli-progress'
import { BillfishError } from '../common/errors'
import { DEFAULT_WIDTH, formatBytes } from '../common/format'

type Stream<Kind> = Kind & { readonly isTTY?: boolean; readonly columns?: number }

/** A command's view of the process: its streams, and Ctrl-C. */
export interface Terminal {
  readonly stdin: Stream<Readable>
  readonly stdout: Stream<Writable>
  readonly stderr: Stream<Writable>
  /**
   * Calls `handler` on an interrupt (Ctrl-C, SIGTERM) until the returned function is called; only the latest handler is
   * called. Without a handler, an interrupt ends the process with exit code 130, or 143 for SIGTERM.
   */
  onInterrupt(handler: () => void): () => void
}

/** Line width for tables: the terminal's, or 80 if there is none. */
export function widthOf(stream: Terminal['stdout']): number {
  const min = 40 // narrower terminals wrap lines themselves
  return stream.isTTY === true && stream.columns ? Math.max(stream.columns, min) : DEFAULT_WIDTH
}

/** The command was interrupted; exit code 130. */
export class Interrupted extends Error {}

/** The command failed and has already reported why; exit code 1. */
export class Unsuccessful extends Error {}

/**
 * Runs `body` with a signal that aborts on an interrupt; a second interrupt ends the process at once.
 * @throws Interrupted if `body` failed because of the interrupt
 */
export async function abortable<T>(terminal: Terminal, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const remove = terminal.onInterrupt(() => {
    remove()
    controller.abort()
  })
  try {
    return await body(controller.signal)
  } catch (error) {
    throw controller.signal.aborted && error === controller.signal.reason ? new Interrupted() : error
  } finally {
    remove()
  }
}

/** All of standard input as text. */
export async function readAll(stdin: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString('utf8')
}

/** Prints one line of JSON. A bigint (a seed) becomes a string of digits: many parsers read numbers as doubles. */
export function printJson(terminal: Terminal, value: unknown): void {
  const text = JSON.stringify(value, (_, member) => (typeof member === 'bigint' ? String(member) : member))
  terminal.stdout.write(`${text}\n`)
}

/** Checks that {@link writeOutput} could write, by opening the file. @throws BillfishError INVALID_OPTION */
export async function checkOutput(option: string, file: string): Promise<void> {
  await output(option, file, async () => (await open(file, 'a')).close())
}

/** Writes a file that an option names. @throws BillfishError INVALID_OPTION if it cannot be written */
export async function writeOutput(option: string, file: string, text: string): Promise<void> {
  await output(option, file, () => writeFile(file, text))
}

async function output(option: string, file: string, write: () => Promise<void>): Promise<void> {
  try {
    await write()
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? `the directory ${dirname(resolve(file))} does not exist; create it first.` : message
    throw new BillfishError('INVALID_OPTION', `${option} ${file}: ${why}`, { cause })
  }
}

export interface ProgressBar {
  /** @param words values for the `{name}` placeholders of the format */
  update(done: number, all: number, words?: Readonly<Record<string, string>>): void
  /** Clears the bar; the next update starts a new one. */
  stop(): void
}

/**
 * A progress bar on standard error; undefined if that is not a terminal.
 * @param format as cli-progress takes it: `{bar}`, `{percentage}`, `{value}`, `{total}`, `{eta_formatted}` and words
 */
export function progressBar({ stderr }: Terminal, format: string): ProgressBar | undefined {
  if (stderr.isTTY !== true) return undefined
  const stream = stderr as NodeJS.WriteStream
  const bar = new SingleBar({ format, stream, clearOnComplete: true, hideCursor: true }, Presets.shades_classic)
  let isShown = false
  return {
    update(done, all, words) {
      if (isShown) bar.update(done, words)
      else bar.start(all, done, words)
      isShown = true
    },
    stop() {
      if (isShown) bar.stop()
      isShown = false
    },
  }
}

/**
 * A {@link progressBar} of bytes, with the words `{done}` and `{all}`, as `onProgress` of whatever reports them. Its stop()
 * takes it away.
 */
export function bytesBar(terminal: Terminal, format: string) {
  const bar = progressBar(terminal, format)
  if (bar === undefined) return undefined
  const update = ({ bytesDone, bytesTotal }: { readonly bytesDone: number; readonly bytesTotal: number }) =>
    bar.update(bytesDone, bytesTotal, { done: formatBytes(bytesDone), all: formatBytes(bytesTotal) })
  return { update, stop: bar.stop }
}
