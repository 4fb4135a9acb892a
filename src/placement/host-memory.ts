import { closeSync, openSync, readSync } from 'node:fs'
import { freemem } from 'node:os'
import { posix } from 'node:path'

/** System queries of {@link availableHostMemory}; replaced in tests. */
export interface HostReaders {
  /** The text of a file; undefined if it does not exist. */
  read(path: string): string | undefined
  freeBytes(): number
}

/** Larger than any of the files, all of which are virtual: reading one takes microseconds. */
const MAX_FILE_BYTES = 16 * 1024

const system: HostReaders = {
  read(path) {
    let file: number | undefined
    try {
      file = openSync(path, 'r')
      const buffer = Buffer.allocUnsafe(MAX_FILE_BYTES)
      return buffer.toString('latin1', 0, readSync(file, buffer, 0, MAX_FILE_BYTES, 0))
    } catch {
      return undefined
    } finally {
      if (file !== undefined) closeSync(file)
    }
  },
  freeBytes: freemem,
}

/**
 * Bytes of host memory that this process may still allocate: what the system can provide without swapping, capped by
 * the limits of its control groups (containers, systemd). Page cache counts as free because the kernel drops it first;
 * otherwise a checkpoint that was read once would seem to fill the machine. (process.availableMemory() is not used
 * because it counts page cache of the group as used.)
 */
export function availableHostMemory(readers: HostReaders = system): number {
  const available = /^MemAvailable:\s*(\d+) kB$/m.exec(readers.read('/proc/meminfo') ?? '')?.[1]
  const free = available === undefined ? readers.freeBytes() : Number(available) * 1024
  return Math.max(0, Math.min(free, ...cgroupHeadroom(readers)))
}

interface Hierarchy {
  readonly mount: string
  readonly limit: string
  readonly usage: string
  /** Prefix of the memory.stat counters that include child groups. */
  readonly total: string
}

const CGROUP_V2: Hierarchy = { mount: '/sys/fs/cgroup', limit: 'memory.max', usage: 'memory.current', total: '' }
const CGROUP_V1: Hierarchy = {
  mount: '/sys/fs/cgroup/memory',
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  total: 'total_',
}

/** Headroom of each control group of this process and of all its ancestors. */
function cgroupHeadroom(readers: HostReaders): number[] {
  const own = readers.read('/proc/self/cgroup') ?? ''
  const left: number[] = []
  for (const [, controllers = '', path = ''] of own.matchAll(/^\d+:([^:]*):(\/.*)$/gm)) {
    if (controllers === '') left.push(...headroomUpwards(readers, CGROUP_V2, path))
    else if (controllers.split(',').includes('memory')) left.push(...headroomUpwards(readers, CGROUP_V1, path))
  }
  return left
}

/** From a group up to the root. In a container the path may be the one on the host, of which only the root exists. */
function headroomUpwards({ read }: HostReaders, hierarchy: Hierarchy, path: string): number[] {
  const left: number[] = []
  for (let group = posix.normalize(path); ; group = posix.dirname(group)) {
    const file = (name: string) => read(posix.join(hierarchy.mount, group, name))
    const limit = Number(file(hierarchy.limit) ?? Number.NaN) // 'max' is no limit
    if (Number.isFinite(limit)) {
      const usage = Number(file(hierarchy.usage) ?? 0)
      left.push(limit - usage + cachedBytes(file('memory.stat') ?? '', hierarchy.total))
    }
    if (group === '/' || group === '.') return left
  }
}

function cachedBytes(stat: string, total: string): number {
  const counter = (name: string) => Number(new RegExp(`^${total}${name} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0)
  return counter('inactive_file') + counter('active_file')
}
