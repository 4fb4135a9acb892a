import { accessSync, constants } from 'node:fs'
import { tmpdir } from 'node:os'

/** Where a fuzzer writes its files: in memory where there is such a place, since most of its time goes to files. */
export const temporaryFolder = isWritable('/dev/shm') ? '/dev/shm' : tmpdir()

function isWritable(folder) {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}
