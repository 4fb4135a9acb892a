/** What the Hub says of a repository. All of it may be hostile. */
import { quoted, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError } from '../common/errors'
import type { HubClient } from './client'
import { type HubName, isCommit } from './hub-name'

/** A file of a repository at a commit. */
export interface HubFile {
  /** Path in the repository, with slashes. */
  readonly path: string
  readonly size: number
  /** What the cache calls it: its sha256 (64 digits) if it is stored as a large file, or else git's sha1 (40). */
  readonly digest: string
}

const MAX_FILES = 10_000
const MAX_PAGES = 100
const MAX_FILE_BYTES = 2 ** 42
const MAX_PATH_LENGTH = 1024

/** The commit that a revision stands for now. @throws BillfishError DOWNLOAD_FAILED */
export async function commitOf(client: HubClient, name: Required<HubName>, signal: AbortSignal): Promise<string> {
  const { repo, revision = '' } = name
  if (isCommit(revision)) return revision
  const path = `/api/models/${repo}/revision/${encodeURIComponent(revision)}`
  const { value } = await client.json(path, { repo, revision }, signal)
  const commit = isObject(value) ? value.sha : undefined
  if (typeof commit === 'string' && isCommit(commit)) return commit
  throw invalid(client, `the commit of ${repo} is ${shown(commit)}`)
}

/** All files of a commit. @throws BillfishError DOWNLOAD_FAILED */
export async function filesOf(
  client: HubClient,
  repo: string,
  commit: string,
  signal: AbortSignal,
): Promise<HubFile[]> {
  const files: HubFile[] = []
  let next: string | undefined = `/api/models/${repo}/tree/${commit}?recursive=true`
  for (let page = 0; next !== undefined; page++) {
    if (page === MAX_PAGES) throw invalid(client, `the list of the files of ${repo} has more than ${MAX_PAGES} pages`)
    const { value, headers } = await client.json(next, { repo, revision: commit }, signal)
    if (!Array.isArray(value)) throw invalid(client, `the list of the files of ${repo} is ${shown(value)}`)
    for (const entry of value) {
      if (isObject(entry) && entry.type === 'directory') continue
      files.push(fileOf(client, entry))
      if (files.length > MAX_FILES) throw invalid(client, `${repo} has more than ${MAX_FILES} files`)
    }
    next = nextPage(client, headers.get('link'))
  }
  return files
}

function fileOf(client: HubClient, entry: unknown): HubFile {
  const { path, size, oid, lfs, xetHash } = isObject(entry) ? entry : {}
  const digest = isObject(lfs) ? lfs.oid : xetHash === undefined ? oid : undefined
  const pattern = isObject(lfs) ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/
  if (typeof path !== 'string' || path === '' || path.length > MAX_PATH_LENGTH) {
    throw invalid(client, `the path of a file is ${shown(path)}`)
  }
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0 || size > MAX_FILE_BYTES) {
    throw invalid(client, `the size of ${quoted(path)} is ${shown(size)}`)
  }
  if (typeof digest !== 'string' || !pattern.test(digest)) {
    throw invalid(client, `the checksum of ${quoted(path)} is ${shown(digest)}`)
  }
  return { path, size, digest }
}

/** Names that Windows gives to devices, with any extension. */
const DEVICE_NAME = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i

/** @throws BillfishError DOWNLOAD_FAILED for a path that could be outside of a snapshot on any system */
export function refuseUnsafePath(path: string): void {
  const isSafe = path.split('/').every((part) => {
    const hasControl = [...part].some((character) => character < ' ')
    return part !== '' && !/[\\:]/.test(part) && !hasControl && !/^\.+$/.test(part) && !DEVICE_NAME.test(part)
  })
  if (isSafe) return
  throw new BillfishError(
    'DOWNLOAD_FAILED',
    `The repository names a file ${quoted(path)}, which is not written anywhere.`,
  )
}

/** The `rel="next"` of a Link header. */
function nextPage(client: HubClient, link: string | null): string | undefined {
  const [, url] = /<([^<>]*)>\s*;\s*rel="?next"?/.exec(link ?? '') ?? []
  if (url === undefined) return undefined
  const { origin } = new URL(client.endpoint)
  if (URL.canParse(url, client.endpoint) && new URL(url, client.endpoint).origin === origin) {
    return new URL(url, client.endpoint).href
  }
  throw invalid(client, `the next page of a list is ${quoted(url)}`)
}

function invalid({ endpoint }: HubClient, message: string): BillfishError {
  return new BillfishError('DOWNLOAD_FAILED', `${endpoint} answers with what the Hub would not: ${message}.`)
}
