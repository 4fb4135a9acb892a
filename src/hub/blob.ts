/** One file's content: downloaded on from where an earlier try ended, and checked. */
import { createHash, type Hash } from 'node:crypto'
import { constants, type FileHandle, lstat, open, rename } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { FileLock } from '../checkpoint/file-lock'
import { quoted } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import { type ModelCache, sizeOf } from './cache'
import type { Answer, HubClient, Subject } from './client'
import type { HubFile } from './listing'
import { Retries, TransientFailure } from './retries'

/** How often it is looked whether another process has let go of a lock, in milliseconds. */
const LOCK_POLL = 250
const PIECE = 1024 * 1024

/** Where a blob comes from and goes to. */
export interface BlobSource {
  readonly client: HubClient
  readonly cache: ModelCache
  readonly repo: string
  readonly commit: string
}

/**
 * Brings a file's content into the cache, if it is not there. Of several processes one downloads, and the others wait.
 * @param report called with the bytes that are there so far; fewer than before where it has to start over
 * @throws BillfishError DOWNLOAD_FAILED, OUT_OF_MEMORY; the signal's reason. What has come stays for the next call.
 */
export async function ensureBlob(
  source: BlobSource,
  file: HubFile,
  signal: AbortSignal,
  report: (bytes: number) => void,
): Promise<void> {
  const { cache } = source
  const lock = await takeLock(cache, file, signal, report)
  try {
    if (await isThere(cache.blob(file.digest), file)) return
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW
    const partial = new PartialFile(await open(cache.partial(file.digest), flags, 0o644), file, report)
    try {
      await complete(partial, source, file, signal)
      await partial.flush()
    } finally {
      await partial.close()
    }
    await rename(cache.partial(file.digest), cache.blob(file.digest))
  } finally {
    await lock.release()
  }
  report(file.size)
}

async function takeLock(
  cache: ModelCache,
  file: HubFile,
  signal: AbortSignal,
  report: (bytes: number) => void,
): Promise<FileLock> {
  const path = await cache.lock(file.digest)
  for (;;) {
    const taken = await FileLock.take(path)
    if (taken instanceof FileLock) return taken
    report(Math.min(file.size, (await sizeOf(cache.partial(file.digest))) ?? 0))
    await sleep(LOCK_POLL, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

async function isThere(path: string, { size }: HubFile): Promise<boolean> {
  const status = await lstat(path).catch(() => undefined)
  return status?.isFile() === true && status.size === size
}

/** Downloads what is missing, and once more from the start if it then is not what was announced. */
async function complete(
  partial: PartialFile,
  { client, repo, commit }: BlobSource,
  file: HubFile,
  signal: AbortSignal,
): Promise<void> {
  const subject: Subject = { repo, revision: commit, path: file.path }
  await partial.resume(signal)
  const retries = new Retries(signal)
  for (let wrong = 0; ; ) {
    const before = partial.bytes
    try {
      if (partial.bytes < file.size) await append(partial, client, subject, file, signal)
    } catch (error) {
      if (partial.bytes > before) retries.reset()
      await retries.after(error)
      continue
    }
    const digest = partial.digest()
    if (digest === file.digest) return
    await partial.startOver()
    if (++wrong === 2) {
      throw new BillfishError(
        'DOWNLOAD_FAILED',
        `${quoted(file.path)} of ${repo} came twice with other bytes than the Hub says: its checksum is ${digest}, and should ` +
          `be ${file.digest}. Try again later, or without the proxy or mirror in between.`,
      )
    }
  }
}

/**
 * Appends what the Hub sends. No If-Range is sent: large files come from another server, whose own ETag is not known after a
 * restart, and the checksum tells in any case.
 */
async function append(
  partial: PartialFile,
  client: HubClient,
  subject: Subject,
  file: HubFile,
  signal: AbortSignal,
): Promise<void> {
  const answer = await client.file(subject, partial.bytes, signal)
  if (!continues(answer, partial.bytes, file.size)) {
    await partial.startOver()
    if (answer.status !== 200) {
      answer.close()
      throw new TransientFailure(`${client.endpoint} sends another part of ${quoted(file.path)} than the one asked for`)
    }
  }
  for await (const chunk of answer.chunks()) {
    if (partial.bytes + chunk.length > file.size) {
      await partial.startOver()
      throw new TransientFailure(`${quoted(file.path)} has more bytes than the ${file.size} that it should have`)
    }
    await partial.write(chunk)
    signal.throwIfAborted()
  }
  if (partial.bytes < file.size) {
    throw new TransientFailure(`${quoted(file.path)} ended after ${partial.bytes} of ${file.size} bytes`)
  }
}

/** Whether an answer goes on at a position. */
function continues({ status, headers }: Answer, from: number, size: number): boolean {
  if (from === 0) return status === 200
  return status === 206 && (headers.get('content-range') ?? '').startsWith(`bytes ${from}-${size - 1}/`)
}

/** A file that grows, and its checksum so far. */
class PartialFile {
  #hash: Hash
  #bytes = 0

  constructor(
    readonly handle: FileHandle,
    readonly file: HubFile,
    readonly report: (bytes: number) => void,
  ) {
    this.#hash = newHash(file)
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Reads what is there. */
  async resume(signal: AbortSignal): Promise<void> {
    const { size } = await this.handle.stat()
    if (size > this.file.size) return this.startOver()
    const buffer = Buffer.alloc(Math.min(PIECE, size))
    while (this.#bytes < size) {
      const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.#bytes)
      if (bytesRead === 0) break
      this.#hash.update(buffer.subarray(0, bytesRead))
      this.#bytes += bytesRead
      this.report(this.#bytes)
      signal.throwIfAborted()
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let written = 0; written < chunk.length; ) {
      const position = this.#bytes + written
      written += (await this.handle.write(chunk, written, chunk.length - written, position)).bytesWritten
    }
    this.#hash.update(chunk)
    this.#bytes += chunk.length
    this.report(this.#bytes)
  }

  async startOver(): Promise<void> {
    await this.handle.truncate(0)
    this.#hash = newHash(this.file)
    this.#bytes = 0
    this.report(0)
  }

  digest(): string {
    return this.#hash.digest('hex')
  }

  flush(): Promise<void> {
    return this.handle.sync()
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}

/** Large files are named by their sha256, others by the sha1 of git's object. */
function newHash({ digest, size }: HubFile): Hash {
  return digest.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}
