import { constants, type FileHandle, open, stat, unlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { addon } from '../native/addon'
import { isMissing } from './files'
import { isObject } from './json'

/** Who holds a lock, as far as its file says. */
export interface LockHolder {
  readonly process: number | undefined
  readonly host: string | undefined
}

/**
 * A lock that one open file in the system can hold: flock(2) on a file that also names its holder. The kernel releases it
 * when its process dies, however it dies, so that neither a recycled process id nor a container of another host name can
 * keep a lock that nobody holds.
 */
export class FileLock {
  readonly #path: string
  readonly #file: FileHandle

  private constructor(path: string, file: FileHandle) {
    this.#path = path
    this.#file = file
  }

  /**
   * Takes the lock, or says who has it.
   * @throws the system's error where the file cannot be made; ENOENT where its directory has gone
   */
  static async take(path: string): Promise<FileLock | LockHolder> {
    for (;;) {
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW
      const file = await open(path, flags, 0o644)
      try {
        if (!lockOrWarn(file, path)) {
          const holder = parseHolder(await file.readFile('utf8'))
          await file.close()
          return holder
        }
        if (await isStillAt(path, file)) {
          await file.truncate()
          await file.write(JSON.stringify({ process: process.pid, host: hostname() }), 0)
          return new FileLock(path, file)
        }
        await file.close() // it was released, and its file removed, between open() and here
      } catch (error) {
        await file.close().catch(() => {})
        throw error
      }
    }
  }

  /** Removes the file and lets go of the lock. Does nothing the second time. */
  async release(): Promise<void> {
    if (this.#file.fd < 0) return
    // In this order: whoever opens the file in between sees that it is no longer at its path.
    if (await isStillAt(this.#path, this.#file)) await unlink(this.#path).catch(() => {})
    await this.#file.close()
  }
}

/** False where another open file has the lock. */
function lockOrWarn(file: FileHandle, path: string): boolean {
  try {
    return addon().tryLockFile(file.fd)
  } catch (error) {
    process.emitWarning(
      `${path} cannot be locked (${(error as Error).message}): see to it that no other process writes there.`,
      { type: 'BillfishWarning', code: 'BILLFISH_FALLBACK' },
    )
    return true
  }
}

async function isStillAt(path: string, file: FileHandle): Promise<boolean> {
  try {
    const [there, here] = await Promise.all([stat(path), file.stat()])
    return there.ino === here.ino && there.dev === here.dev
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

function parseHolder(text: string): LockHolder {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // It has just been taken, and does not name its holder yet.
  }
  const said = isObject(value) ? value : {}
  return {
    process: typeof said.process === 'number' ? said.process : undefined,
    host: typeof said.host === 'string' ? said.host : undefined,
  }
}
