/**
 * Where a padded checkpoint comes into being, so that nothing unfinished has its name:
 *
 *     OUT.partial/
 *       lock                                  held by the process that writes, which it names
 *       state.json                            fingerprint of what is padded, and how
 *       checkpoint/                           becomes OUT, by renaming, once everything is in it
 *         model-00001.safetensors             finished shards, on disk
 *         model-00002.safetensors.unfinished
 *         ...                                 config.json comes last: without it this is no checkpoint
 */
import { lstat, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { FileLock } from '../checkpoint/file-lock'
import { isMissing } from '../checkpoint/files'
import { COPY_DIRECTORY, readFingerprint, STATE_FILE, UNFINISHED_SUFFIX } from '../checkpoint/unfinished-copy'
import { BillfishError } from '../common/errors'
import { writing } from './write-errors'

const UNFINISHED = '.unfinished'
const LOCK_FILE = 'lock'

/** What is at a path: links are not followed, and count as something else. @throws BillfishError INVALID_OPTION */
async function kindOf(path: string): Promise<'directory' | 'other' | undefined> {
  try {
    return (await lstat(path)).isDirectory() ? 'directory' : 'other'
  } catch (error) {
    if (isMissing(error)) return undefined
    const why = (error as Error).message
    throw new BillfishError('INVALID_OPTION', `${path} cannot be written: ${why}. Name another output.`, {
      cause: error,
    })
  }
}

/** Not `recursive`: where nothing can be made, as in /proc, Node.js tries for ever then. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await writing(path, 0, () => mkdir(path))
  } catch (error) {
    if ((await kindOf(path)) !== 'directory') throw error // else another process was faster
  }
}

/** @throws BillfishError INVALID_OPTION */
export async function refuseExisting(output: string): Promise<void> {
  if ((await kindOf(output)) === undefined) return
  throw new BillfishError(
    'INVALID_OPTION',
    `${output} exists, and is not overwritten; name another directory, or remove it.`,
  )
}

/** Makes a file's contents, or the names in a directory, durable, where the system can. */
export async function flush(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Whether there is more than a lock in it, but not what every workspace has. */
async function isSomebodyElses(directory: string): Promise<boolean> {
  if ((await kindOf(join(directory, STATE_FILE))) !== undefined) return false
  return (await readdir(directory)).some((name) => name !== LOCK_FILE)
}

export class Workspace {
  /** What will be renamed to the output directory. */
  readonly checkpoint: string
  #lock: FileLock | undefined

  readonly #output: string

  private constructor(
    readonly directory: string,
    output: string,
  ) {
    this.#output = output
    this.checkpoint = join(directory, COPY_DIRECTORY)
  }

  /**
   * Makes the workspace beside `output`, or takes the one that an earlier call left. What that one finished is kept if it
   * did the same from the same files, as `fingerprint` says.
   *
   * @throws BillfishError INVALID_OPTION where another process is at it, or the directory is somebody else's
   */
  static async open(output: string, fingerprint: string): Promise<Workspace> {
    const workspace = new Workspace(`${output}${UNFINISHED_SUFFIX}`, output)
    const { directory, checkpoint } = workspace
    const statePath = join(directory, STATE_FILE)
    const kind = await kindOf(directory)
    if (kind === undefined) {
      if ((await stat(dirname(output)).catch(() => undefined)) === undefined) {
        throw new BillfishError('INVALID_OPTION', `${dirname(output)} does not exist; create it first.`)
      }
      await makeDirectory(directory)
    } else if (kind === 'other' || (await isSomebodyElses(directory))) {
      throw new BillfishError(
        'INVALID_OPTION',
        `${directory} is needed for unfinished files, but ${kind === 'other' ? 'is no directory' : 'holds something else'}; remove it, or name ` +
          'another output directory.',
      )
    }
    await workspace.#takeLock()
    try {
      const isOurs = (await readFingerprint(directory)) === fingerprint
      if (!isOurs || (await kindOf(checkpoint)) !== 'directory') {
        await rm(checkpoint, { recursive: true, force: true })
        // Never through a link, nor into a pipe.
        await writing(statePath, 0, async () => {
          await rm(statePath, { force: true })
          await writeFile(statePath, `${JSON.stringify({ fingerprint })}\n`, { flag: 'wx' })
        })
      }
      if ((await kindOf(checkpoint)) === undefined) await makeDirectory(checkpoint)
    } catch (error) {
      await workspace.unlock()
      throw error
    }
    return workspace
  }

  /** Where a shard is written until {@link finish}. */
  unfinished(name: string): string {
    return join(this.checkpoint, `${name}${UNFINISHED}`)
  }

  /** The shard is complete and on disk. */
  async finish(name: string): Promise<void> {
    await writing(this.unfinished(name), 0, () => rename(this.unfinished(name), join(this.checkpoint, name)))
  }

  /** Whether an earlier call finished the file, of `bytes` bytes. */
  async isFinished(name: string, bytes: number): Promise<boolean> {
    try {
      const status = await lstat(join(this.checkpoint, name))
      return status.isFile() && status.size === bytes
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
  }

  /** Removes all but these files from an earlier call's checkpoint. */
  async keepOnly(names: readonly string[]): Promise<void> {
    for (const name of await readdir(this.checkpoint)) {
      if (!names.includes(name)) await rm(join(this.checkpoint, name), { recursive: true })
    }
  }

  /** Takes a finished file back. */
  async discard(name: string): Promise<void> {
    await rm(join(this.checkpoint, name), { force: true })
  }

  /** Gives the checkpoint its name. The workspace is gone then. */
  async publish(): Promise<void> {
    await flush(this.checkpoint)
    await refuseExisting(this.#output)
    await writing(this.#output, 0, () => rename(this.checkpoint, this.#output))
    await flush(dirname(this.#output))
    await rm(this.directory, { recursive: true, force: true })
    await this.unlock()
  }

  /** Lets another call go on with what is there. */
  async unlock(): Promise<void> {
    await this.#lock?.release()
  }

  async #takeLock(): Promise<void> {
    const path = join(this.directory, LOCK_FILE)
    const taken = await writing(path, 0, () => FileLock.take(path))
    if (taken instanceof FileLock) {
      this.#lock = taken
      return
    }
    const holder = `${taken.process === undefined ? 'Another process' : `Process ${taken.process}`}${taken.host === undefined ? '' : ` on ${taken.host}`}`
    throw new BillfishError(
      'INVALID_OPTION',
      `${holder} is writing ${basename(this.#output)} in ${this.directory}; wait for it, or name another output directory.`,
    )
  }
}
