import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { invalidCheckpoint } from './invalid'

/** Pointers are smaller than this by specification. */
const MAX_BYTES = 1024
const FIRST_LINE = 'version https://git-lfs.github.com/spec/'

/**
 * Rejects a Git LFS pointer, the small text that a clone without LFS leaves in place of a large file.
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function rejectLfsPointer(file: FileHandle, bytes: number, path: string): Promise<void> {
  if (bytes < FIRST_LINE.length || bytes > MAX_BYTES) return
  const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0)
  const text = buffer.toString('latin1', 0, bytesRead)
  if (!text.startsWith(FIRST_LINE)) return
  const size = /^size (\d{1,16})$/m.exec(text)?.[1]
  throw invalidCheckpoint(
    `${path} is a Git LFS pointer${size === undefined ? '' : ` to a file of ${size} bytes`}, not the file itself; ` +
      `run git lfs install && git lfs pull in ${dirname(path)}, or download the file`,
  )
}
