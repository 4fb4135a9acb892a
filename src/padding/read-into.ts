import type { FileHandle } from 'node:fs/promises'
import { invalidCheckpoint } from '../checkpoint/invalid'

/**
 * Reads exactly `bytes` bytes from `offset` of the file on, to `at` in `target`.
 *
 * @throws BillfishError INVALID_CHECKPOINT where the file ends before that
 */
export async function readInto(
  file: FileHandle,
  path: string,
  target: Buffer,
  at: number,
  bytes: number,
  offset: number,
): Promise<void> {
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.read(target, at + done, bytes - done, offset + done)
    if (bytesRead === 0) {
      throw invalidCheckpoint(`${path} ended at byte ${offset + done}: it has changed since it was opened; begin again`)
    }
    done += bytesRead
  }
}
