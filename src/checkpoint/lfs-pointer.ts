import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { invalidCheckpoint } from './invalid'

/** The specification allows a pointer fewer bytes than this. */
const MAX_BYTES = 1024
const FIRST_LINE = 'version https://git-lfs.github.com/spec/'

/**
 * Git without LFS clones a small text in place of every large file.
 * @throws BillfishError INVALID_CHECKPOINT for such a text
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
