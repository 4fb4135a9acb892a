import { BillfishError } from '../common/errors'
import { deviceName } from '../placement/device-map'
import { type MemorySize, parseMemorySize } from '../placement/memory-size'
import type { DeviceOption } from '../placement/plan-devices'

/**
 * Reads `--devices`: `4x24GiB` for CUDA devices of so much memory, `24GiB,cuda:3=80GiB@2.5,cpu=64GiB@0.1` with names
 * and speeds, or `cpu:0,cpu:1` for devices without a limit. Sizes without a name are the first CUDA devices that no
 * entry names.
 * @throws BillfishError INVALID_OPTION for what is no device, size or speed
 */
export function parseDevices(list: string): (string | DeviceOption)[] {
  const entries = list.split(',').flatMap(parseEntry)
  const names = entries.flatMap(({ name }) => (name === undefined ? [] : [name]))
  let index = 0
  const nextCuda = () => {
    while (names.includes(`cuda:${index}`)) index++
    return `cuda:${index++}`
  }
  return entries.map(({ name, memory, speed }) => {
    const device = name ?? nextCuda()
    if (memory === undefined && speed === undefined) return device
    return { device, memory, speed }
  })
}

interface Entry {
  /** A size without a name is the next CUDA device. */
  readonly name?: string
  /** Bytes. */
  readonly memory?: number
  readonly speed?: number | undefined
}

/** The devices of one entry of the list: `DEVICE`, `SIZE`, `COUNTxSIZE` or `DEVICE=SIZE`, and maybe `@SPEED`. */
function parseEntry(text: string): Entry[] {
  const [what = '', ...speeds] = text.split('@').map((part) => part.trim())
  const speed = speeds.length > 0 ? parseSpeed(speeds.join('@'), text) : undefined
  const [, name, size] = /^([^=]*)=(.*)$/.exec(what) ?? []
  if (name !== undefined) return [{ name: parseName(name.trim(), text), memory: parseSize(size ?? '', text), speed }]

  const [, times, each] = /^(\d{1,3})\s*x(.*)$/i.exec(what) ?? []
  if (times !== undefined) {
    if (Number(times) === 0) throw invalid(text, 'it is no device')
    const memory = parseSize(each ?? '', text)
    return Array.from({ length: Number(times) }, () => ({ memory, speed }))
  }
  if (/^[\d.]+\s*[a-z]/i.test(what)) return [{ memory: parseSize(what, text), speed }]
  return [{ name: parseName(what, text), speed }]
}

function parseSize(size: string, entry: string): number {
  return parseMemorySize(size, `--devices ${entry}`)
}

function parseName(name: string, entry: string): string {
  try {
    return deviceName(name)
  } catch {
    throw invalid(entry, `${JSON.stringify(name)} is neither a device nor a size`)
  }
}

function parseSpeed(text: string, entry: string): number {
  const speed = Number(text)
  if (text !== '' && Number.isFinite(speed) && speed > 0) return speed
  throw invalid(entry, `${JSON.stringify(text)} is not a speed; give a number above 0`)
}

function invalid(entry: string, what: string): BillfishError {
  const forms = '24GiB, 4x24GiB, cuda:0=24GiB, cpu=64GiB@0.1 or cpu:1'
  return new BillfishError('INVALID_OPTION', `--devices ${entry}: ${what}. Entries look like ${forms}.`)
}

/**
 * Reads `--max-memory`: `cuda:0=20GiB,cpu=64GiB`, or JSON as Hugging Face has it (`{"0": "20GiB", "cpu": "64GiB"}`).
 * @throws BillfishError INVALID_OPTION
 */
export function parseMaxMemory(text: string): Record<string, MemorySize> {
  if (text.trimStart().startsWith('{')) return parseJsonOption('--max-memory', text) as Record<string, MemorySize>
  const entries = text.split(',').map((entry) => {
    const [, device, size] = /^\s*([^=\s]+)\s*=(.*)$/.exec(entry) ?? []
    if (device !== undefined && size !== undefined) return [device, size.trim()] as const
    throw new BillfishError(
      'INVALID_OPTION',
      `--max-memory ${entry}: give each device its size, as in cuda:0=20GiB,cpu=64GiB.`,
    )
  })
  return Object.fromEntries(entries)
}

/** The value of an option that is JSON. @throws BillfishError INVALID_OPTION */
export function parseJsonOption(option: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new BillfishError('INVALID_OPTION', `${option} is not JSON: ${(cause as Error).message}`, { cause })
  }
}
