import { type FileHandle, open, stat } from 'node:fs/promises'
import { BillfishError } from '../errors'
import { invalidCheckpoint } from './invalid'
import { decodeUtf8, type JsonLimits, parseJson } from './json'

export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/**
 * Calls `body` with the opened file and its size in bytes, and closes it again. Anything but a regular file (or a link to
 * one) is refused before it is opened: opening a pipe would wait for a writer.
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
    if (!status.isFile()) throw invalidCheckpoint(`${path} is not a regular file`)
    file = await open(path, 'r')
    return await body(file, status.size)
  } catch (error) {
    if (signal?.aborted && Object.is(error, signal.reason)) throw error
    if (error instanceof BillfishError || isMissing(error)) throw error
    throw invalidCheckpoint(`${path} cannot be read: ${(error as Error).message}`, error)
  } finally {
    await file?.close()
  }
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
 * Reads a JSON file of at most `maxBytes` bytes.
 *
 * @returns undefined where there is no such file
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function readJsonFile(path: string, maxBytes: number, limits: JsonLimits): Promise<unknown> {
  try {
    return await withFile(path, async (file, bytes) => {
      if (bytes > maxBytes) throw invalidCheckpoint(`${path} has ${bytes} bytes; at most ${maxBytes} are read`)
      return parseJson(decodeUtf8(await readExactly(file, 0, bytes, path), path), path, limits)
    })
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
