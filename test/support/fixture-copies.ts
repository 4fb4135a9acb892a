/** Copies of fixtures with another config, other tensors or damage. */
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { modelDirectory } from './fixtures'
import { readSafetensors, type StoredTensor, safetensors } from './tensors'

/** A copy of a fixture with a different config.json; its other files are links. */
export function withConfig(name: string, change: (config: Record<string, unknown>) => unknown): string {
  const source = modelDirectory(name)
  const directory = mkdtempSync(join(tmpdir(), 'billfish-'))
  for (const file of readdirSync(source)) {
    if (file !== 'config.json') symlinkSync(join(source, file), join(directory, file))
  }
  const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'))
  writeFileSync(join(directory, 'config.json'), JSON.stringify(change(config)))
  return directory
}

export interface FixtureCopy {
  config: Record<string, unknown>
  tensors: Map<string, StoredTensor>
}

/** Writes a fixture's tensors into one file, with names and config changed by `change`. @returns the new directory */
export function changedCopy(fixture: string, change: (copy: FixtureCopy) => void): string {
  const directory = mkdtempSync(join(tmpdir(), 'billfish-'))
  const copy: FixtureCopy = { config: {}, tensors: new Map() }
  for (const file of readdirSync(fixture)) {
    if (file.startsWith('golden') || file.endsWith('.index.json')) continue
    const path = join(fixture, file)
    if (file.endsWith('.safetensors'))
      for (const [name, tensor] of readSafetensors(path)) copy.tensors.set(name, tensor)
    else if (file === 'config.json') copy.config = JSON.parse(readFileSync(path, 'utf8'))
    else if (file.endsWith('.json')) writeFileSync(join(directory, file), readFileSync(path))
  }
  change(copy)
  writeFileSync(join(directory, 'config.json'), JSON.stringify(copy.config))
  writeFileSync(join(directory, 'model.safetensors'), safetensors(Object.fromEntries(copy.tensors)))
  return directory
}

/** {@link changedCopy} with renamed tensors. */
export function renamedCopy(fixture: string, rename: (name: string) => string): string {
  return changedCopy(fixture, (copy) => {
    copy.tensors = new Map([...copy.tensors].map(([name, tensor]) => [rename(name), tensor]))
  })
}

/** Bits of NaN, infinity, and 10^20 or the value closest to it, little-endian. */
const BITS = {
  F16: { nan: [0x00, 0x7e], infinity: [0x00, 0x7c], huge: [0xff, 0x7b] },
  BF16: { nan: [0xc0, 0x7f], infinity: [0x80, 0x7f], huge: [0xad, 0x60] },
  F32: { nan: [0x00, 0x00, 0xc0, 0x7f], infinity: [0x00, 0x00, 0x80, 0x7f], huge: [0xec, 0x78, 0xad, 0x60] },
}

/** A copy of a fixture with one number of one tensor replaced; its other files are links. */
export function withDamage(name: string, tensor: string, element: number, value: 'nan' | 'infinity' | 'huge'): string {
  const source = modelDirectory(name)
  const directory = mkdtempSync(join(tmpdir(), 'billfish-'))
  let found = false
  for (const file of readdirSync(source)) {
    const entry = file.endsWith('.safetensors') && file !== 'golden.safetensors' && entryOf(join(source, file), tensor)
    if (!entry) {
      symlinkSync(join(source, file), join(directory, file))
      continue
    }
    found = true
    copyFileSync(join(source, file), join(directory, file))
    const bytes = BITS[entry.dtype][value]
    const open = openSync(join(directory, file), 'r+')
    writeSync(open, Buffer.from(bytes), 0, bytes.length, entry.begin + element * bytes.length)
    closeSync(open)
  }
  if (!found) throw new Error(`${name} has no tensor ${tensor}`)
  return directory
}

function entryOf(path: string, tensor: string): { dtype: keyof typeof BITS; begin: number } | undefined {
  const file = readFileSync(path)
  const headerLength = Number(file.readBigUInt64LE(0))
  const entry = JSON.parse(file.toString('utf8', 8, 8 + headerLength))[tensor]
  return entry && { dtype: entry.dtype, begin: 8 + headerLength + entry.data_offsets[0] }
}
