import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { BillfishError } from '../common/errors'

const NO_ROOM = ['ENOSPC', 'EDQUOT', 'EFBIG']

/**
 * Calls `body`, which writes `path`, and says what to do where it cannot.
 *
 * @param bytes - of the whole file, for the message
 * @throws BillfishError OUT_OF_MEMORY where there is no room on disk, INVALID_OPTION for everything else
 */
export async function writing<Result>(path: string, bytes: number, body: () => Promise<Result>): Promise<Result> {
  try {
    return await body()
  } catch (cause) {
    if (cause instanceof BillfishError) throw cause
    const { code, message } = cause as NodeJS.ErrnoException
    if (code !== undefined && NO_ROOM.includes(code)) {
      throw new BillfishError(
        'OUT_OF_MEMORY',
        `There is no room for the ${bytes} bytes of ${path} (${message}). Free some space there: the same command goes on ` +
          `where it stopped; or remove ${dirname(path)} to give up.`,
        { cause },
      )
    }
    throw new BillfishError('INVALID_OPTION', `${path} cannot be written: ${message}.`, { cause })
  }
}

/** @throws BillfishError OUT_OF_MEMORY where the file system of `directory` has not so many bytes free */
export async function checkRoom(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(directory)
  if (blocks === 0 || bavail * bsize >= bytes) return // 0: a file system without limit
  throw new BillfishError(
    'OUT_OF_MEMORY',
    `${bytes} bytes are to be written, but on the disk of ${directory} only ${bavail * bsize} are free. Free some space there, ` +
      'or name an output directory on another disk.',
  )
}
