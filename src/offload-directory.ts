import { stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { BillfishError } from './errors'
import { readPath } from './options/path'

/** File systems of Linux that lie in memory: tmpfs and ramfs (statfs(2)). */
const IN_MEMORY = new Set([0x01021994, 0x858458f6])

/**
 * The directory for the weights of device `'disk'`: the option's, or the system's for temporary files. Warns (process
 * warning BILLFISH_OFFLOAD_IN_MEMORY) where files lie in memory, so that nothing would be saved.
 * @throws BillfishError INVALID_OPTION unless it is a directory
 */
export async function offloadDirectory(option: string | URL | undefined): Promise<string> {
  const directory = resolve(option === undefined ? tmpdir() : readPath(option, 'offloadDirectory'))
  const isDirectory = await stat(directory).then(
    (status) => status.isDirectory(),
    () => false,
  )
  if (!isDirectory) {
    throw new BillfishError('INVALID_OPTION', `offloadDirectory: ${directory} is not a directory.`)
  }
  if (process.platform === 'linux' && IN_MEMORY.has((await statfs(directory)).type)) {
    process.emitWarning(
      `The weights of device 'disk' go to ${directory}, which lies in memory. Set offloadDirectory to a directory on a disk.`,
      { type: 'BillfishWarning', code: 'BILLFISH_OFFLOAD_IN_MEMORY' },
    )
  }
  return directory
}
