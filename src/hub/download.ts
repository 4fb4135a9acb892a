import { z } from 'zod'
import { BillfishError } from '../common/errors'
import { readPath } from '../options/path'
import { invalidOption } from '../options/printed'
import { watchedWork } from '../options/progress'
import { optionsOf, readOptions, readValue } from '../options/read-options'
import { withOwnSignal } from '../options/signal'
import { abortSignal, callback, flag, pathOption, text } from '../options/values'
import { HubClient } from './client'
import { hubCache, hubEndpoint, hubToken, idleTimeout, isOffline } from './environment'
import { DEFAULT_REVISION, isRevision, readHubName } from './hub-name'
import { cachedSnapshot, type DownloadProgress, downloadSnapshot, type SnapshotRequest, type Wanted } from './snapshot'

/** Options of {@link downloadModel}. */
export interface DownloadOptions {
  /** A branch, tag or commit. Default: what the name says after `@`, or `'main'`. Production should name a commit. */
  readonly revision?: string | undefined
  /** An access token, for gated and private models. Default: `HF_TOKEN`, or what `hf auth login` has stored. */
  readonly token?: string | undefined
  /** The cache's directory. Default: that of Python's huggingface_hub, `HF_HUB_CACHE` or `~/.cache/huggingface/hub`. */
  readonly cacheDir?: string | URL | undefined
  /** The Hub's address. Default: `HF_ENDPOINT`, or https://huggingface.co. */
  readonly endpoint?: string | undefined
  /** Looks into the cache only. Default: as `HF_HUB_OFFLINE` says. */
  readonly offline?: boolean | undefined
  /**
   * The files to download, as paths in the repository, in which `*` stands for any text. Default: what billfish reads, which
   * are configs, tokenizer, chat templates and safetensors files.
   */
  readonly files?: readonly string[] | undefined
  /** Called with the bytes that are there, ten times a second at most. Throwing, or rejecting, fails the download. */
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  /** Cancels the call, which rejects with its reason; the same call resumes later. */
  readonly signal?: AbortSignal | undefined
}

const downloadOptions = optionsOf<DownloadOptions>('downloadModel()', {
  revision: z.string().refine(isRevision).describe('a branch, a tag or a commit'),
  token: text(),
  cacheDir: pathOption(),
  endpoint: text(),
  offline: flag(),
  files: z.array(z.string().min(1).max(1024)).min(1).max(1000).describe("an array of paths, such as ['config.json']"),
  onProgress: callback<(progress: DownloadProgress) => void>(),
  signal: abortSignal(),
})

/**
 * Downloads a model from the Hugging Face Hub into the cache that it shares with Python's huggingface_hub, and returns its
 * directory. Files that are there are not downloaded again, interrupted ones go on where they stopped, and every file is
 * compared with its checksum.
 *
 * `loadModel`, `planModel` and `loadTokenizer` do this for a model's name; call it to choose the cache, or to have the files
 * before they are needed.
 * @example
 * ```js
 * const directory = await downloadModel('Qwen/Qwen3-0.6B', { signal: AbortSignal.timeout(600_000) })
 * const model = await loadModel(directory)
 * ```
 * @param name `'OWNER/NAME'` or `'OWNER/NAME@REVISION'`
 * @returns the absolute path of the snapshot
 * @throws BillfishError DOWNLOAD_FAILED (no such model or revision, no access, no connection, a wrong checksum; offline:
 *   what is missing), INVALID_OPTION, INVALID_CHECKPOINT (the model has no config.json or safetensors files),
 *   OUT_OF_MEMORY (no room on disk); the reason of the signal if it aborts
 */
export async function downloadModel(name: string, options: DownloadOptions = {}): Promise<string> {
  const given = readOptions(downloadOptions, options)
  const named = readHubName(readValue(text(), name, 'name'))
  if (named.revision !== undefined && given.revision !== undefined && named.revision !== given.revision) {
    throw invalidOption('revision', given.revision, `left out, or ${named.revision} as in the name`)
  }
  const request: SnapshotRequest = {
    repo: named.repo,
    revision: given.revision ?? named.revision ?? DEFAULT_REVISION,
    root: given.cacheDir === undefined ? hubCache() : readPath(given.cacheDir, 'cacheDir'),
    wanted: given.files ?? 'checkpoint',
  }
  return withOwnSignal(given.signal, (signal) => snapshot(request, { ...given, signal }))
}

/**
 * {@link downloadModel} as the environment says.
 * @param wanted which of its files
 */
export async function downloadNamed(
  name: string,
  wanted: Wanted,
  options: { readonly signal: AbortSignal; readonly onProgress?: DownloadOptions['onProgress'] | undefined },
): Promise<string> {
  const { repo, revision = DEFAULT_REVISION } = readHubName(name)
  return snapshot({ repo, revision, root: hubCache(), wanted }, options)
}

async function snapshot(
  request: SnapshotRequest,
  options: Pick<DownloadOptions, 'token' | 'endpoint' | 'offline' | 'onProgress'> & { readonly signal: AbortSignal },
): Promise<string> {
  if (options.offline ?? isOffline()) {
    const why = options.offline ? 'the option offline forbids to download it' : 'HF_HUB_OFFLINE forbids to download it'
    return cachedSnapshot(request, why)
  }
  const client = new HubClient(hubEndpoint(options.endpoint), await hubToken(options.token), idleTimeout())
  const ending = new AbortController() // by the signal, or by what onProgress throws
  return watchedWork(
    options,
    () => ending.abort(options.signal.reason),
    (report) => downloadSnapshot(client, request, ending.signal, report).catch(asWriteError),
  )
}

/** Errors of the system become those of the cache. @throws BillfishError OUT_OF_MEMORY for a full disk, INVALID_OPTION */
function asWriteError(cause: unknown): never {
  const { code = '', syscall, message } = cause as NodeJS.ErrnoException
  if (cause instanceof BillfishError || syscall === undefined) throw cause
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) {
    const advice = 'Free some space there; the same call goes on where it stopped.'
    throw new BillfishError('OUT_OF_MEMORY', `There is no room in the Hub's cache (${message}). ${advice}`, { cause })
  }
  const advice = 'HF_HUB_CACHE, or cacheDir, names another directory.'
  throw new BillfishError('INVALID_OPTION', `The Hub's cache cannot be written: ${message}. ${advice}`, { cause })
}
