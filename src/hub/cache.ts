import {
  copyFile,
  link,
  lstat,
  mkdir,
  readFile,
  realpath,
  rename,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { dirname, join, posix, resolve } from 'node:path'
import { isMissing } from '../checkpoint/files'
import { BillfishError } from '../common/errors'
import { isCommit } from './hub-name'

/**
 * The part of the Hub's cache that belongs to a model, laid out as Python's huggingface_hub does, which finds what is here
 * and leaves what is found here:
 *
 *     models--OWNER--NAME/blobs/DIGEST            a file's content
 *     models--OWNER--NAME/snapshots/COMMIT/PATH   a link to it
 *     models--OWNER--NAME/refs/REVISION           the commit of a branch or tag
 *     .locks/models--OWNER--NAME/DIGEST.lock      held by who writes a blob
 */
export class ModelCache {
  readonly #folder: string

  private constructor(
    readonly root: string,
    repo: string,
  ) {
    this.#folder = `models--${repo.replace('/', '--')}`
  }

  /** @param root the cache's directory, which need not exist */
  static async open(root: string, repo: string): Promise<ModelCache> {
    const path = resolve(root)
    return new ModelCache(await realpath(path).catch(() => path), repo)
  }

  /** The directory that is a checkpoint. */
  snapshot(commit: string): string {
    return join(this.root, this.#folder, 'snapshots', commit)
  }

  /** A file of a snapshot. */
  file(commit: string, path: string): string {
    return join(this.snapshot(commit), ...path.split('/'))
  }

  blob(digest: string): string {
    return join(this.root, this.#folder, 'blobs', digest)
  }

  /** A blob's beginning, from a download that has not ended. */
  partial(digest: string): string {
    return `${this.blob(digest)}.incomplete`
  }

  /** The commit that a branch or tag had when it was downloaded last; undefined if it never was. */
  async ref(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision
    const text = await readFile(join(this.root, this.#folder, 'refs', revision), 'utf8').catch(() => '')
    return isCommit(text.trim()) ? text.trim() : undefined
  }

  async writeRef(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || (await this.ref(revision)) === commit) return
    const parts = posix.join(this.#folder, 'refs', revision).split('/')
    const directory = await this.#makeDirectory(parts.slice(0, -1))
    const path = join(directory, parts.at(-1) as string)
    await replace(path, (temporary) => writeFile(temporary, commit, { flag: 'wx', flush: true }))
  }

  /** Makes the directory of blobs. @throws BillfishError INVALID_OPTION where it, or one above it, leads out of the cache */
  async prepareBlobs(): Promise<void> {
    await this.#makeDirectory([this.#folder, 'blobs'])
  }

  /** Path of a blob's lock, in a directory that exists. */
  async lock(digest: string): Promise<string> {
    return join(await this.#makeDirectory(['.locks', this.#folder]), `${digest}.lock`)
  }

  /** Gives a blob its name in a snapshot. */
  async link(commit: string, path: string, digest: string): Promise<void> {
    const parts = [this.#folder, 'snapshots', commit, ...path.split('/')]
    const directory = await this.#makeDirectory(parts.slice(0, -1))
    const blob = this.blob(digest)
    const target = join(...parts.slice(2).map(() => '..'), 'blobs', digest)
    await replace(join(directory, parts.at(-1) as string), async (temporary) => {
      try {
        await symlink(target, temporary)
      } catch (error) {
        const { code = '' } = error as NodeJS.ErrnoException
        if (!['EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'].includes(code)) throw error
        await link(blob, temporary).catch(() => copyFile(blob, temporary)) // Windows, without the right to make symlinks
      }
    })
  }

  /** Makes directories below the root, none of which may be a link: what is written here stays here. */
  async #makeDirectory(parts: readonly string[]): Promise<string> {
    await mkdir(this.root, { recursive: true })
    let path = this.root
    for (const part of parts) {
      path = join(path, part)
      await mkdir(path).catch((error) => {
        if (error.code !== 'EEXIST') throw error
      })
      if ((await lstat(path)).isDirectory()) continue
      throw new BillfishError(
        'INVALID_OPTION',
        `${path} is no directory, or a link to one: nothing is downloaded through it. Remove it, or name another cacheDir.`,
      )
    }
    return path
  }
}

/** Bytes of a file, or of what a link leads to; undefined if there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const status = await stat(path)
    return status.isFile() ? status.size : undefined
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** Makes a file beside `path` and gives it that name at once, whatever has it now. */
async function replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${process.pid}-${Math.random().toString(36).slice(2)}.tmp`)
  await make(temporary)
  try {
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary)
    throw error
  }
}
