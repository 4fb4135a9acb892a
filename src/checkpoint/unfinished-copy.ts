/** The directories in which `billfish pad` writes a copy of a checkpoint, before it gets its name; never a checkpoint. */
import { basename, dirname, join } from 'node:path'
import { readJsonFile } from './files'
import { invalidCheckpoint } from './invalid'
import { isObject } from './json'

/** `OUT` comes into being in `OUT.partial/checkpoint`, beside a file that says what is copied. */
export const UNFINISHED_SUFFIX = '.partial'
export const COPY_DIRECTORY = 'checkpoint'
export const STATE_FILE = 'state.json'
const MAX_STATE_BYTES = 4096

/** What is copied, and how; undefined where that is not known, or the directory is somebody else's. */
export async function readFingerprint(directory: string): Promise<string | undefined> {
  try {
    const state = await readJsonFile(join(directory, STATE_FILE), MAX_STATE_BYTES, {})
    return isObject(state) && typeof state.fingerprint === 'string' ? state.fingerprint : undefined
  } catch {
    return undefined // no such file, cut off by a crash, or a pipe: then it says nothing
  }
}

/** @throws BillfishError INVALID_CHECKPOINT for a copy that is being written, or was left unfinished */
export async function rejectUnfinishedCopy(path: string): Promise<void> {
  const directory = basename(path) === COPY_DIRECTORY ? dirname(path) : path
  if (!directory.endsWith(UNFINISHED_SUFFIX) || (await readFingerprint(directory)) === undefined) return
  throw invalidCheckpoint(
    `${path} is a copy that billfish pad has not finished; run the same billfish pad command again, which goes on where it ` +
      `stopped, and open ${directory.slice(0, -UNFINISHED_SUFFIX.length)} then`,
  )
}
