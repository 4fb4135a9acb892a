/** Copies of fixtures with renamed tensors. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readSafetensors, type StoredTensor, safetensorsOf } from './safetensors'

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
  writeFileSync(join(directory, 'model.safetensors'), safetensorsOf(Object.fromEntries(copy.tensors)))
  return directory
}

/** {@link changedCopy} with renamed tensors. */
export function renamedCopy(fixture: string, rename: (name: string) => string): string {
  return changedCopy(fixture, (copy) => {
    copy.tensors = new Map([...copy.tensors].map(([name, tensor]) => [rename(name), tensor]))
  })
}
