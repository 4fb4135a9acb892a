/** What a result must say about the machine and the moment it was measured on. */
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readSync, rmSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from './command-line.mjs'
import { writeAll } from './safetensors-writer.mjs'

export const repository = join(import.meta.dirname, '../..')

function command(file, ...rest) {
  return execFileSync(file, rest, { cwd: repository, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim()
}

/** The commit that a clone stands at. */
export const commitOf = (clone) => command('git', '-C', clone, 'rev-parse', 'HEAD')

/** Processor, cores, memory, system; the commit, and whether tracked files differ from it. */
export function machine() {
  return {
    date: new Date().toISOString(),
    commit: commitOf(repository),
    uncommittedChanges: command('git', '--no-optional-locks', 'status', '--porcelain', '--untracked-files=no') !== '',
    processor: cpus()[0].model.trim(),
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    system: `${process.platform} ${release()}`,
    node: process.version,
  }
}

/** How many cores other programs keep busy, measured over half a second in which this one does nothing. */
export async function busyCores() {
  const times = () => {
    const all = cpus().map((core) => core.times)
    const idle = all.reduce((sum, core) => sum + core.idle, 0)
    return { idle, total: all.reduce((sum, core) => sum + core.user + core.nice + core.sys + core.irq + core.idle, 0) }
  }
  const before = times()
  await sleep(500)
  const after = times()
  const total = after.total - before.total
  return total === 0 ? 0 : cpus().length * (1 - (after.idle - before.idle) / total)
}

/** Builds and returns a program of bench/native by its CMake target's name. */
export function nativeProgram(target) {
  const build = join(repository, 'build-bench')
  command('cmake', '-S', repository, '-B', build, '-DBILLFISH_BENCH=ON', '-DBILLFISH_CUDA=off', '-DBILLFISH_UNITY=on')
  command('cmake', '--build', build, '--target', target, '--parallel', '2')
  return join(build, target)
}

/** The memory's read bandwidth with all cores, measured by a process that stays: its gigabyte is ready each time. */
export class ReadBandwidth {
  #child
  #lines

  constructor() {
    const cores = String(availableParallelism())
    this.#child = spawn(nativeProgram('bandwidth'), [cores, '1024', '4', 'each'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** The median of four passes over 1 GiB, in GB/s. */
  async read() {
    this.#child.stdin.write('\n')
    const { done, value } = await this.#lines.next()
    if (done) throw new Failure('the program that measures the read bandwidth has ended')
    return JSON.parse(value).gigabytesPerSecond.median
  }

  /** Ends the process. */
  close() {
    this.#child.stdin.end()
  }
}

const COPY_CHUNK = 1 << 20

/** Reads a file through `use(chunk)`. */
function readThrough(path, use) {
  const chunk = Buffer.alloc(COPY_CHUNK)
  const file = openSync(path)
  try {
    for (let got = readSync(file, chunk); got > 0; got = readSync(file, chunk)) use(chunk.subarray(0, got))
  } finally {
    closeSync(file)
  }
}

/** Brings a file into the page cache. */
export const warm = (path) => readThrough(path, () => {})

/** Milliseconds to copy files, byte by byte (no reflinks), into a new folder beside them, which is removed again. */
export function copyMilliseconds(paths, folder) {
  mkdirSync(folder)
  try {
    const start = performance.now()
    for (const [index, path] of paths.entries()) {
      const copy = openSync(join(folder, String(index)), 'w')
      try {
        readThrough(path, (chunk) => writeAll(copy, chunk))
      } finally {
        closeSync(copy)
      }
    }
    return performance.now() - start
  } finally {
    rmSync(folder, { recursive: true })
  }
}
