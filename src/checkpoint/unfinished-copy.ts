/**
 * Directories in which `billfish pad` writes a copy of a checkpoint before it is renamed; never a checkpoint
 * themselves.
 */
import { basename, dirname, join } from 'node:path'
import { readJsonFile } from './files'
import { invalidCheckpoint } from './invalid'
import { isObject } from './json'

/** `OUT` is written to `OUT.partial/checkpoint`, next to a file that says what is being copied. */
export const UNFINISHED_SUFFIX = '.partial'
export const COPY_DIRECTORY = 'checkpoint'
export const STATE_FILE = 'state.json'
const MAX_STATE_BYTES = 4096

/** Identifies what is being copied; undefined if unknown, or if the directory belongs to someone else. */
export async function readFingerprint(directory: string): Promise<string | undefined> {
  try {
    const state = await readJsonFile(join(directory, STATE_FILE), MAX_STATE_BYTES, {})
    return isObject(state) && typeof state.fingerprint === 'string' ? state.fingerprint : undefined
  } catch {
    return undefined // missing, truncated by a crash, or a pipe
  }
}

/** Rejects an unfinished copy. @throws BillfishError INVALID_CHECKPOINT */
export async function rejectUnfinishedCopy(path: string): Promise<void> {
  const directory = basename(path) === COPY_DIRECTORY ? dirname(path) : path
  if (!directory.endsWith(UNFINISHED_SUFFIX) || (await readFingerprint(directory)) === undefined) return
  throw invalidCheckpoint(
    `${path} is an unfinished copy by billfish pad; run the same billfish pad command again, which resumes where it ` +
      `stopped, then open ${directory.slice(0, -UNFINISHED_SUFFIX.length)}`,
  )
}
