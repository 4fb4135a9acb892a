import { isOnHub } from '../hub/checkpoint-directory'
import { type DownloadOptions, downloadModel } from '../hub/download'
import { hidesProgress } from '../hub/environment'
import { bytesBar, type Terminal } from './terminal'

/** Options of commands that may be quiet. */
export interface OutputOptions {
  readonly json?: boolean
  readonly quiet?: boolean
}

/**
 * The directory of the checkpoint that a command was given: a name of a model on the Hub is downloaded, as far as it is not
 * in the cache, and standard error says so.
 */
export async function localCheckpoint(
  terminal: Terminal,
  given: string,
  options: OutputOptions,
  signal: AbortSignal,
): Promise<string> {
  if (!(await isOnHub(given))) return given
  if (options.quiet !== true && options.json !== true) {
    terminal.stderr.write(`There is no directory ${given} here; taking the model of this name on the Hub.\n`)
  }
  return downloadWithBar(terminal, given, { signal }, options)
}

const DOWNLOADING = 'Downloading {bar} {percentage}%  {done} of {all}  {eta_formatted} left'

/** Downloads with a progress bar where standard error is a terminal. */
export async function downloadWithBar(
  terminal: Terminal,
  name: string,
  options: DownloadOptions,
  { json, quiet }: OutputOptions,
): Promise<string> {
  const bar = json || quiet || hidesProgress() ? undefined : bytesBar(terminal, DOWNLOADING)
  try {
    return await downloadModel(name, { ...options, onProgress: bar?.update })
  } finally {
    bar?.stop()
  }
}
