/** A model's files at a commit: asked for, downloaded as far as they are missing, and found again offline. */
import { readdir, statfs } from 'node:fs/promises'
import { forEachConcurrently } from '../checkpoint/concurrency'
import { quoted } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import { ensureBlob } from './blob'
import { ModelCache, sizeOf } from './cache'
import type { HubClient } from './client'
import { commitOf, filesOf, type HubFile, refuseUnsafePath } from './listing'
import { isSettings, missingFrom, shardNames } from './needed-files'
import { TransientFailure } from './retries'

/** Which files: all that a model needs, those without its weights, or those that match patterns (`*` for any text). */
export type Wanted = 'checkpoint' | 'settings' | readonly string[]

export interface SnapshotRequest {
  readonly repo: string
  readonly revision: string
  /** Directory of the cache. */
  readonly root: string
  readonly wanted: Wanted
}

/** How far a download has come. */
export interface DownloadProgress {
  /** Bytes that are there, from earlier downloads too. */
  readonly bytesDone: number
  /** Bytes of all files together. */
  readonly bytesTotal: number
}

const CONCURRENT_FILES = 4
/** Milliseconds between reports. */
const REPORT_INTERVAL = 100

/**
 * Downloads what is missing of a snapshot.
 * @returns its directory
 * @throws BillfishError DOWNLOAD_FAILED, INVALID_CHECKPOINT, OUT_OF_MEMORY (no room on disk); the signal's reason
 */
export async function downloadSnapshot(
  client: HubClient,
  request: SnapshotRequest,
  signal: AbortSignal,
  report: (progress: DownloadProgress) => void,
): Promise<string> {
  const { repo, revision, wanted } = request
  const cache = await ModelCache.open(request.root, repo)
  let commit: string
  let files: readonly HubFile[]
  try {
    commit = await commitOf(client, { repo, revision }, signal)
    files = await filesOf(client, repo, commit, signal)
  } catch (error) {
    return await withoutNetwork(request, error)
  }
  const download = new Download(client, cache, repo, commit, signal)
  if (typeof wanted === 'object') await download.fetch(matching(files, wanted, repo), report)
  else {
    const settings = files.filter(isSettings)
    refuseWithoutConfig(settings, repo)
    await download.fetch(settings, () => {}) // they say which weights are needed, and how much that is
    if (wanted === 'settings') {
      if (!(await isWhole(cache, revision))) await cache.writeRef(revision, commit)
      return cache.snapshot(commit)
    }
    const names = new Set(
      await shardNames(
        cache.snapshot(commit),
        files.map(({ path }) => path),
      ),
    )
    await download.fetch([...settings, ...files.filter(({ path }) => names.has(path))], report)
  }
  await cache.writeRef(revision, commit)
  return cache.snapshot(commit)
}

/**
 * The snapshot that a revision stood for when it was downloaded last.
 * @param why there is no network, as the end of a sentence
 * @throws BillfishError DOWNLOAD_FAILED naming what is missing
 */
export async function cachedSnapshot(request: SnapshotRequest, why: string): Promise<string> {
  const { repo, revision, root, wanted } = request
  const cache = await ModelCache.open(root, repo)
  const commit = await cache.ref(revision)
  const names = commit === undefined ? [] : await readdir(cache.snapshot(commit), { recursive: true }).catch(() => [])
  const failed = (what: string) =>
    new BillfishError('DOWNLOAD_FAILED', `${what}, and ${why}. Run billfish download ${repo} with a connection.`)
  if (commit === undefined || names.length === 0) {
    throw failed(`${repo} is not in the cache ${root} at revision ${revision}`)
  }
  const directory = cache.snapshot(commit)
  const missing =
    typeof wanted === 'object'
      ? wanted.filter((pattern) => !names.some((name) => expressionOf(pattern).test(name.replaceAll('\\', '/'))))
      : wanted === 'checkpoint'
        ? await missingFrom(directory)
        : []
  if (missing.length === 0) return directory
  const more = missing.length > 8 ? ` and ${missing.length - 8} more` : ''
  throw failed(`${directory} lacks ${missing.slice(0, 8).map(quoted).join(', ')}${more}`)
}

/** Whether a revision was downloaded with its weights: offline, such a commit is worth more than a newer one without them. */
async function isWhole(cache: ModelCache, revision: string): Promise<boolean> {
  const commit = await cache.ref(revision)
  return commit !== undefined && (await missingFrom(cache.snapshot(commit))).length === 0
}

/** Where the Hub cannot be reached, what is there already serves, with a warning. @throws `error` where it does not */
async function withoutNetwork(request: SnapshotRequest, error: unknown): Promise<string> {
  if (!(error instanceof BillfishError) || !(error.cause instanceof TransientFailure)) throw error
  const directory = await cachedSnapshot(request, error.message).catch(() => {
    throw error
  })
  process.emitWarning(
    `${error.cause.message}. ${request.repo} is used as it was downloaded to ${directory}; HF_HUB_OFFLINE=1 does so without asking.`,
    { type: 'BillfishWarning', code: 'BILLFISH_FALLBACK' },
  )
  return directory
}

function refuseWithoutConfig(settings: readonly HubFile[], repo: string): void {
  if (settings.some(({ path }) => path === 'config.json')) return
  throw new BillfishError(
    'INVALID_CHECKPOINT',
    `${repo} has no config.json: billfish runs models as transformers loads them, with config.json and safetensors files.`,
  )
}

/** @throws BillfishError DOWNLOAD_FAILED for a pattern without a file */
function matching(files: readonly HubFile[], patterns: readonly string[], repo: string): HubFile[] {
  const expressions = patterns.map(expressionOf)
  const unmatched = patterns.find((_, i) => !files.some(({ path }) => expressions[i]?.test(path)))
  if (unmatched === undefined) return files.filter(({ path }) => expressions.some((each) => each.test(path)))
  throw new BillfishError('DOWNLOAD_FAILED', `${repo} has no file ${quoted(unmatched)}.`)
}

function expressionOf(pattern: string): RegExp {
  const parts = pattern.split(/\*+/).map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's')
}

/** Brings files of one commit into the cache. */
class Download {
  constructor(
    readonly client: HubClient,
    readonly cache: ModelCache,
    readonly repo: string,
    readonly commit: string,
    readonly signal: AbortSignal,
  ) {}

  async fetch(files: readonly HubFile[], report: (progress: DownloadProgress) => void): Promise<void> {
    for (const { path } of files) refuseUnsafePath(path)
    const here = await Promise.all(files.map(({ path }) => sizeOf(this.cache.file(this.commit, path))))
    const done = files.map(({ size }, i) => (here[i] === size ? size : 0))
    const bytesTotal = files.reduce((sum, { size }) => sum + size, 0)
    let told = Number.NEGATIVE_INFINITY
    const tell = (isDue = performance.now() - told >= REPORT_INTERVAL) => {
      if (!isDue) return
      told = performance.now()
      report({ bytesDone: done.reduce((sum, bytes) => sum + bytes, 0), bytesTotal })
    }
    tell()
    const missing = [...files.keys()].filter((i) => here[i] !== files[i]?.size)
    if (missing.length === 0) return
    await this.cache.prepareBlobs()
    await this.#checkRoom(missing.map((i) => files[i] as HubFile))
    const failing = new AbortController() // one file's failure ends the others, which go on next time
    const signal = AbortSignal.any([this.signal, failing.signal])
    await forEachConcurrently(missing.length, CONCURRENT_FILES, async (at) => {
      const i = missing[at] as number
      const file = files[i] as HubFile
      try {
        await ensureBlob(this, file, signal, (bytes) => {
          done[i] = bytes
          tell()
        })
        await this.cache.link(this.commit, file.path, file.digest)
      } catch (error) {
        failing.abort(error)
        throw error
      }
    })
    tell(true)
  }

  /** @throws BillfishError OUT_OF_MEMORY */
  async #checkRoom(files: readonly HubFile[]): Promise<void> {
    const { cache } = this
    let needed = 0
    for (const { digest, size } of files) {
      if ((await sizeOf(cache.blob(digest))) === size) continue
      needed += size - Math.min(size, (await sizeOf(cache.partial(digest))) ?? 0)
    }
    const { bavail, bsize, blocks } = await statfs(cache.root)
    if (blocks === 0 || bavail * bsize >= needed) return // 0: a file system without limit
    throw new BillfishError(
      'OUT_OF_MEMORY',
      `${needed} bytes of ${this.repo} are to be downloaded, but on the disk of ${cache.root} only ${bavail * bsize} are free. ` +
        'Free some space there, or name a directory on another disk: HF_HUB_CACHE, or cacheDir.',
    )
  }
}
