import { closeSync, openSync, readSync } from 'node:fs'
import { freemem } from 'node:os'
import { posix } from 'node:path'

/** What {@link availableHostMemory} asks the system, for tests to answer. */
export interface HostReaders {
  /** A file's text; undefined where there is none. */
  read(path: string): string | undefined
  freeBytes(): number
}

/** More than any of the files has. They lie in memory, all of them: reading them takes microseconds. */
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
 * Bytes of the machine's memory that this process may still take: what the system can free without swapping, and no more
 * than the limits of its control groups (containers, systemd) leave. Pages that only cache files count as free, since
 * the kernel drops them first: a checkpoint that has been read once would otherwise seem to fill the machine. (That is
 * why process.availableMemory() is not used, which takes all that a group holds for taken.)
 */
export function availableHostMemory(readers: HostReaders = system): number {
  const available = /^MemAvailable:\s*(\d+) kB$/m.exec(readers.read('/proc/meminfo') ?? '')?.[1]
  const free = available === undefined ? readers.freeBytes() : Number(available) * 1024
  return Math.max(0, Math.min(free, ...groupsLeave(readers)))
}

interface Hierarchy {
  readonly mount: string
  readonly limit: string
  readonly usage: string
  /** Prefix of memory.stat's counters that have the groups inside in them. */
  readonly total: string
}

const CGROUP_V2: Hierarchy = { mount: '/sys/fs/cgroup', limit: 'memory.max', usage: 'memory.current', total: '' }
const CGROUP_V1: Hierarchy = {
  mount: '/sys/fs/cgroup/memory',
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  total: 'total_',
}

/** What each control group that this process is in, and each group around it, leaves of its limit. */
function groupsLeave(readers: HostReaders): number[] {
  const own = readers.read('/proc/self/cgroup') ?? ''
  const left: number[] = []
  for (const [, controllers = '', path = ''] of own.matchAll(/^\d+:([^:]*):(\/.*)$/gm)) {
    if (controllers === '') left.push(...leftUpwards(readers, CGROUP_V2, path))
    else if (controllers.split(',').includes('memory')) left.push(...leftUpwards(readers, CGROUP_V1, path))
  }
  return left
}

/** From a group up to the root; in a container the path may be that of the host, of which the root alone is there. */
function leftUpwards({ read }: HostReaders, hierarchy: Hierarchy, path: string): number[] {
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
