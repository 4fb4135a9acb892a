import { lstat } from 'node:fs/promises'
import { BillfishError } from '../common/errors'
import { downloadNamed } from './download'
import { parseHubName } from './hub-name'
import type { DownloadProgress } from './snapshot'

/** Whether a text names a model on the Hub: it looks like one, and is no path of something that exists. */
export async function isOnHub(given: string): Promise<boolean> {
  if (parseHubName(given) === undefined) return false
  return lstat(given).then(
    () => false,
    () => true,
  )
}

/**
 * The directory of a checkpoint, for everything that opens one: a path stays as it is, existing or not, and a name of a
 * model on the Hub is downloaded as far as it is not in the cache.
 * @param wanted `settings` where no weights are read
 * @throws BillfishError as `downloadModel()`; the signal's reason
 */
export async function checkpointDirectory(
  given: string,
  wanted: 'checkpoint' | 'settings',
  options: { readonly signal: AbortSignal; readonly onProgress?: ((progress: DownloadProgress) => void) | undefined },
): Promise<string> {
  if (!(await isOnHub(given))) return given
  try {
    return await downloadNamed(given, wanted, options)
  } catch (cause) {
    if (!(cause instanceof BillfishError) || cause.code !== 'DOWNLOAD_FAILED') throw cause
    throw new BillfishError(cause.code, `${cause.message} (There is no directory ${given} here.)`, { cause })
  }
}
