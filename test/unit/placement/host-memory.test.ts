import { describe, expect, test } from 'vitest'
import { availableHostMemory } from '../../../src/placement/host-memory'

const meminfo =
  'MemTotal:       24683656 kB\nMemFree:         1064544 kB\nMemAvailable:   20000000 kB\nBuffers: 35084 kB\n'
const KiB = 1024
const available = 20_000_000 * KiB

const bytes = (files: Record<string, string>, free = 7) =>
  availableHostMemory({ read: (path) => files[path], freeBytes: () => free })

describe('availableHostMemory', () => {
  test('is what the system can free', () => {
    expect(bytes({ '/proc/meminfo': meminfo })).toBe(available)
    expect(bytes({ '/proc/meminfo': meminfo, '/proc/self/cgroup': '0::/\n' })).toBe(available)
  })

  test('is what the system reports as free without /proc', () => {
    expect(bytes({}, 12345)).toBe(12345)
  })

  test('is what a control group leaves, not counting its cache', () => {
    const group = '/sys/fs/cgroup/system.slice/app.service'
    const files = {
      '/proc/meminfo': meminfo,
      '/proc/self/cgroup': '0::/system.slice/app.service\n',
      [`${group}/memory.max`]: '8000000000\n',
      [`${group}/memory.current`]: '7000000000\n',
      [`${group}/memory.stat`]: 'anon 900000000\nfile 6100000000\ninactive_file 5000000000\nactive_file 1000000000\n',
    }
    expect(bytes(files)).toBe(7_000_000_000)
    const around = { '/sys/fs/cgroup/system.slice/memory.max': '2000000000', ...files }
    expect(bytes(around)).toBe(2_000_000_000)
    expect(bytes({ ...files, [`${group}/memory.max`]: 'max\n' })).toBe(available)
    expect(bytes({ ...files, [`${group}/memory.current`]: '99000000000\n' })).toBe(0)
  })

  test('in a container, whose group is the root that it sees', () => {
    const files = {
      '/proc/meminfo': meminfo,
      '/proc/self/cgroup': '0::/docker/0123abcd\n',
      '/sys/fs/cgroup/memory.max': '4294967296\n',
      '/sys/fs/cgroup/memory.current': '1073741824\n',
      '/sys/fs/cgroup/memory.stat': 'inactive_file 1048576\nactive_file 0\n',
    }
    expect(bytes(files)).toBe(3 * 2 ** 30 + 2 ** 20)
  })

  test('in control groups of version 1', () => {
    const files = {
      '/proc/meminfo': meminfo,
      '/proc/self/cgroup': '9:name=systemd:/\n5:cpu,cpuacct:/\n4:memory:/jobs/7\n0::/\n',
      '/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes': '9223372036854771712\n',
      '/sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes': '5000\n',
      '/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes': '3000000000\n',
      '/sys/fs/cgroup/memory/jobs/memory.usage_in_bytes': '1500000000\n',
      '/sys/fs/cgroup/memory/jobs/memory.stat': 'inactive_file 9\ntotal_inactive_file 400\ntotal_active_file 100\n',
    }
    expect(bytes(files)).toBe(1_500_000_500)
  })

  test('is a number of this machine', () => {
    expect(availableHostMemory()).toBeGreaterThan(2 ** 20)
  })
})
