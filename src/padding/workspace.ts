/**
 * Where a padded checkpoint comes into being, so that nothing unfinished has its name:
 *
 *     OUT.partial/
 *       lock                                  process and machine that write
 *       state.json                            fingerprint of what is padded, and how
 *       checkpoint/                           becomes OUT, by renaming, once everything is in it
 *         model-00001.safetensors             finished shards, on disk
 *         model-00002.safetensors.unfinished
 *         ...                                 config.json comes last: without it this is no checkpoint
 */
import { lstat, mkdir, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { isMissing } from '../checkpoint/files'
import { isObject } from '../checkpoint/json'
import { COPY_DIRECTORY, readFingerprint, STATE_FILE, UNFINISHED_SUFFIX } from '../checkpoint/unfinished-copy'
import { BillfishError } from '../errors'
import { writing } from './write-errors'

const UNFINISHED = '.unfinished'

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** @throws BillfishError INVALID_OPTION */
export async function refuseExisting(output: string): Promise<void> {
  if (!(await exists(output))) return
  throw new BillfishError(
    'INVALID_OPTION',
    `${output} exists, and is not overwritten; name another directory, or remove it.`,
  )
}

function isAlive(process_: number): boolean {
  try {
    process.kill(process_, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
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

export class Workspace {
  /** What will be renamed to the output directory. */
  readonly checkpoint: string

  private constructor(
    readonly directory: string,
    private readonly output: string,
  ) {
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
    if (!(await exists(directory))) {
      if (!(await exists(dirname(output)))) {
        throw new BillfishError('INVALID_OPTION', `${dirname(output)} does not exist; create it first.`)
      }
      await writing(directory, 0, () => mkdir(directory))
    } else if (!(await exists(statePath)) && (await readdir(directory)).some((name) => name !== 'lock')) {
      throw new BillfishError(
        'INVALID_OPTION',
        `${directory} is needed for unfinished files, but holds something else; remove it, or name another output directory.`,
      )
    }
    await workspace.lock()
    try {
      if ((await readFingerprint(directory)) !== fingerprint) {
        await rm(checkpoint, { recursive: true, force: true })
        await writing(statePath, 0, () => writeFile(statePath, `${JSON.stringify({ fingerprint })}\n`))
      }
      await writing(checkpoint, 0, () => mkdir(checkpoint, { recursive: true }))
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
      return (await stat(join(this.checkpoint, name))).size === bytes
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
    await refuseExisting(this.output)
    await writing(this.output, 0, () => rename(this.checkpoint, this.output))
    await flush(dirname(this.output))
    await rm(this.directory, { recursive: true, force: true })
  }

  /** Lets another call go on with what is there. */
  async unlock(): Promise<void> {
    await rm(join(this.directory, 'lock'), { force: true })
  }

  private async lock(): Promise<void> {
    const path = join(this.directory, 'lock')
    const own = { process: process.pid, host: hostname() }
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        await writeFile(path, JSON.stringify(own), { flag: 'wx' })
        return
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') await writing(path, 0, () => Promise.reject(error))
      }
      const holder = parsed(await readFile(path, 'utf8').catch(() => ''))
      const isElsewhere = holder.host !== undefined && holder.host !== own.host
      if (isElsewhere || (typeof holder.process === 'number' && isAlive(holder.process))) {
        throw new BillfishError(
          'INVALID_OPTION',
          `Process ${holder.process} on ${holder.host} is writing ${basename(this.output)} in ${this.directory}; wait for it, or ` +
            `remove ${path} if it is no more.`,
        )
      }
      await unlink(path).catch(() => {}) // of a process that was killed
    }
    throw new BillfishError('INVALID_OPTION', `${path} was taken by another process; try again.`)
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}
