import { formatBytes } from '../common/format'
import { isOnHub } from '../hub/checkpoint-directory'
import { type DownloadOptions, downloadModel } from '../hub/download'
import { hidesProgress } from '../hub/environment'
import type { DownloadProgress } from '../hub/snapshot'
import { progressBar, type Terminal } from './terminal'

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

/** Downloads with a progress bar where standard error is a terminal. */
export async function downloadWithBar(
  terminal: Terminal,
  name: string,
  options: DownloadOptions,
  { json, quiet }: OutputOptions,
): Promise<string> {
  const bar = json || quiet || hidesProgress() ? undefined : downloadBar(terminal)
  try {
    return await downloadModel(name, { ...options, onProgress: bar?.update })
  } finally {
    bar?.stop()
  }
}

function downloadBar(terminal: Terminal) {
  const bar = progressBar(terminal, 'Downloading {bar} {percentage}%  {done} of {all}  {eta_formatted} left')
  if (bar === undefined) return undefined
  const update = ({ bytesDone, bytesTotal }: DownloadProgress) =>
    bar.update(bytesDone, bytesTotal, { done: formatBytes(bytesDone), all: formatBytes(bytesTotal) })
  return { update, stop: bar.stop }
}
