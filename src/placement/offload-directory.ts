import { stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { BillfishError } from '../common/errors'
import { readPath } from '../options/path'

/** Linux file systems that live in memory: tmpfs and ramfs (statfs(2)). */
const IN_MEMORY = new Set([0x01021994, 0x858458f6])

/**
 * Directory for the weights of device `'disk'`: the option, or the temporary directory of the system. Emits a process
 * warning (BILLFISH_OFFLOAD_IN_MEMORY) if its files live in memory, so that offloading would save nothing.
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
      `The weights of device 'disk' go to ${directory}, which is in memory. Set offloadDirectory to a directory on a disk.`,
      { type: 'BillfishWarning', code: 'BILLFISH_OFFLOAD_IN_MEMORY' },
    )
  }
  return directory
}
