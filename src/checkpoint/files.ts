import { type FileHandle, lstat, open, readlink, stat } from 'node:fs/promises'
import { TextDecoder } from 'node:util'
import { BillfishError } from '../errors'
import { invalidCheckpoint } from './invalid'
import { parseJson } from './json'
import { rejectLfsPointer } from './lfs-pointer'
import type { JsonOptions } from './sliced-json'

/** Bytes that are read and decoded at a time: a millisecond's worth. */
const PIECE = 1024 * 1024

export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/**
 * Calls `body` with the opened file and its size in bytes, and closes it again. Anything but a regular file (or a link to
 * one) is refused before it is opened: opening a pipe would wait for a writer. So is what Git LFS leaves in its place.
 *
 * @param signal which `body` heeds: its reason is thrown as it is
 * @throws BillfishError INVALID_CHECKPOINT; the system's own error, unchanged, where the file does not exist
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
        `${path} is ${status.isDirectory() ? 'a directory' : 'not a regular file'}; a file is needed there`,
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

/** A link into a cache whose blob is gone is not a file that nobody ever had. */
async function rejectDanglingLink(path: string, cause: unknown): Promise<void> {
  const target = await lstat(path).then(
    (status) => (status.isSymbolicLink() ? readlink(path) : undefined),
    () => undefined,
  )
  if (target === undefined) return
  throw invalidCheckpoint(
    `${path} is a link to ${target}, which does not exist; download the file again, or copy the directory with what its links lead to`,
    cause,
  )
}

/** Reads exactly `bytes` bytes at `position`. @throws BillfishError INVALID_CHECKPOINT where the file ends before that */
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
          'it is being written or was cut off; download it again',
      )
    }
    filled += bytesRead
  }
  return buffer
}

/**
 * The text of `bytes` bytes at `position` in pieces of a megabyte: to join those of a long one would hold the event loop.
 *
 * @param what - the text's name for messages
 * @throws BillfishError INVALID_CHECKPOINT where the file ends before that, or holds no UTF-8
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
    try {
      pieces.push(decoder.decode(piece, { stream: done + length < bytes }))
    } catch (error) {
      throw invalidCheckpoint(`${what} is not valid UTF-8; download it again`, error)
    }
  }
  return pieces
}

/** What editors on Windows save as "Unicode": its byte order mark, or an ASCII character with a null byte at its side. */
function rejectUtf16([first, second]: Uint8Array, what: string): void {
  const marked = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)
  if (marked || (first === 0) !== (second === 0)) throw invalidCheckpoint(`${what} is UTF-16; save it as UTF-8`)
}

/**
 * The text of a file in pieces of a megabyte, or undefined where there is no such file.
 * @throws BillfishError INVALID_CHECKPOINT where it has more than `maxBytes` bytes, or is not UTF-8
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
 * @returns undefined where there is no such file
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function readJsonFile(path: string, maxBytes: number, limits: JsonOptions): Promise<unknown> {
  const text = await readTextFile(path, maxBytes)
  return text === undefined ? undefined : parseJson(text, path, limits)
}
