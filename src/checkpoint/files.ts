import { type FileHandle, lstat, open, readlink, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { TextDecoder } from 'node:util'
import { BillfishError } from '../common/errors'
import { yieldToEventLoop } from '../common/event-loop'
import { invalidCheckpoint } from './invalid'
import { parseJson } from './json'
import type { JsonOptions } from './sliced-json'

/** Bytes read and decoded at a time: about a millisecond. */
const PIECE = 1024 * 1024

export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/**
 * Opens a file, calls `body` with the handle and the size in bytes, and closes it. Anything but a regular file (or a
 * link to one) is rejected before it is opened, because opening a pipe would block; so are Git LFS pointers.
 *
 * @param signal signal that `body` observes; its reason is rethrown unchanged
 * @throws BillfishError INVALID_CHECKPOINT; the original system error if the file does not exist
 */
export async function withFile<Result>(
  path: string,
  body: (file: FileHandle, bytes: number) => Promise<Result>,
  signal?: AbortSignal,
): Promise<Result> {
  let file: FileHandle | undefined
  try {
    const status = await stat(path)
    if (!status.isFile()) {
      throw invalidCheckpoint(
        `${path} is ${status.isDirectory() ? 'a directory' : 'not a regular file'}; expected a file`,
      )
    }
    file = await open(path, 'r')
    await rejectLfsPointer(file, status.size, path)
    return await body(file, status.size)
  } catch (error) {
    if (signal?.aborted && Object.is(error, signal.reason)) throw error
    if (isMissing(error)) await rejectDanglingLink(path, error)
    if (error instanceof BillfishError || isMissing(error)) throw error
    throw invalidCheckpoint(`${path} cannot be read: ${(error as Error).message}`, error)
  } finally {
    await file?.close()
  }
}

/** A link whose target is missing, such as a deleted cache blob, is an error and not an absent file. */
async function rejectDanglingLink(path: string, cause: unknown): Promise<void> {
  const target = await lstat(path).then(
    (status) => (status.isSymbolicLink() ? readlink(path) : undefined),
    () => undefined,
  )
  if (target === undefined) return
  throw invalidCheckpoint(
    `${path} is a link to ${target}, which does not exist; download the file again, or copy the directory with its link targets`,
    cause,
  )
}

/** Reads exactly `bytes` bytes at `position`. @throws BillfishError INVALID_CHECKPOINT if the file ends early */
export async function readExactly(
  file: FileHandle,
  position: number,
  bytes: number,
  path: string,
): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes)
  let filled = 0
  while (filled < bytes) {
    const { bytesRead } = await file.read(buffer, filled, bytes - filled, position + filled)
    if (bytesRead === 0) {
      throw invalidCheckpoint(
        `${path} ended after ${position + filled} bytes while ${position + bytes} were expected: ` +
          'it is still being written or was truncated; download it again',
      )
    }
    filled += bytesRead
  }
  return buffer
}

/**
 * Reads `bytes` bytes of UTF-8 at `position` as chunks of 1 MiB: joining a long text would block the event loop.
 *
 * @param what name of the text, for error messages
 * @throws BillfishError INVALID_CHECKPOINT if the file ends early or is not UTF-8
 */
export async function readTextPieces(
  file: FileHandle,
  position: number,
  bytes: number,
  what: string,
): Promise<string[]> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const pieces: string[] = []
  for (let done = 0; done < bytes; done += PIECE) {
    const length = Math.min(PIECE, bytes - done)
    const piece = await readExactly(file, position + done, length, what)
    if (done === 0) rejectUtf16(piece, what)
    await yieldToEventLoop() // several files' pieces may have come at once
    try {
      pieces.push(decoder.decode(piece, { stream: done + length < bytes }))
    } catch (error) {
      throw invalidCheckpoint(`${what} is not valid UTF-8; download it again`, error)
    }
  }
  return pieces
}

/** Rejects what Windows editors save as "Unicode": a byte order mark, or an ASCII character next to a null byte. */
function rejectUtf16([first, second]: Uint8Array, what: string): void {
  const marked = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)
  if (marked || (first === 0) !== (second === 0)) throw invalidCheckpoint(`${what} is UTF-16; save it as UTF-8`)
}

/**
 * Reads a text file as chunks of 1 MiB; undefined if it does not exist.
 * @throws BillfishError INVALID_CHECKPOINT if it is larger than `maxBytes` or not UTF-8
 */
export async function readTextFile(path: string, maxBytes: number): Promise<string[] | undefined> {
  try {
    return await withFile(path, async (file, bytes) => {
      if (bytes > maxBytes) throw invalidCheckpoint(`${path} has ${bytes} bytes; at most ${maxBytes} are read`)
      return readTextPieces(file, 0, bytes, path)
    })
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/**
 * Reads a JSON file of at most `maxBytes` bytes.
 *
 * @returns undefined if the file does not exist
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function readJsonFile(path: string, maxBytes: number, limits: JsonOptions): Promise<unknown> {
  const text = await readTextFile(path, maxBytes)
  return text === undefined ? undefined : parseJson(text, path, limits)
}

/** Git LFS pointers are smaller than this by specification. */
const MAX_POINTER_BYTES = 1024
const POINTER_FIRST_LINE = 'version https://git-lfs.github.com/spec/'

/**
 * Rejects a Git LFS pointer, the small text that a clone without LFS leaves in place of a large file.
 * @throws BillfishError INVALID_CHECKPOINT
 */
async function rejectLfsPointer(file: FileHandle, bytes: number, path: string): Promise<void> {
  if (bytes < POINTER_FIRST_LINE.length || bytes > MAX_POINTER_BYTES) return
  const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0)
  const text = buffer.toString('latin1', 0, bytesRead)
  if (!text.startsWith(POINTER_FIRST_LINE)) return
  const size = /^size (\d{1,16})$/m.exec(text)?.[1]
  throw invalidCheckpoint(
    `${path} is a Git LFS pointer${size === undefined ? '' : ` to a file of ${size} bytes`}, not the file itself; ` +
      `run git lfs install && git lfs pull in ${dirname(path)}, or download the file`,
  )
}
