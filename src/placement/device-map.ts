import { z } from 'zod'
import { BillfishError } from '../common/errors'
import type { ModuleNames } from '../models/architecture'
import { invalidOption, printed } from '../options/printed'
import { readValue } from '../options/read-options'
import { guarded, snapshot } from '../options/snapshot'
import { MapKeys, prefixesOf } from './map-keys'

/**
 * Placement of modules: a device name (`'cpu'`, `'cpu:1'`, `'cuda:0'`, `'disk'`), a CUDA index, or prefix -> device as
 * in Hugging Face's `device_map` (`''` is the whole model). The longest matching prefix wins. A key inside a module,
 * such as the name of a tensor, places the whole module; all such keys must agree. A layer's experts
 * (`'model.layers.3.mlp.experts'`) are a module of their own, which is with its layer unless a key places it;
 * `'model.layers.*.mlp.experts'` places those of all layers that no other key places.
 *
 * `'disk'` is for what fits nowhere else: its weights are in a file in `offloadDirectory`, and the CPU reads them from
 * there during each step. KV cache and buffers stay in memory.
 *
 * With tensorParallelSize n, a stage is placed on n comma-separated devices: `'cuda:0,cuda:1'`.
 */
export type DeviceMap = string | number | Readonly<Record<string, string | number>>

/**
 * The normalized name of a `device_map` value: a device, or a comma-separated group of devices.
 * @throws BillfishError INVALID_OPTION
 */
export function groupName(value: unknown): string {
  if (typeof value !== 'string' || !value.includes(',')) return deviceName(value)
  return value
    .split(',')
    .map((device) => deviceName(device.trim()))
    .join(',')
}

/**
 * The normalized device name of a `device_map` value.
 * @param option name of the option, for error messages
 * @throws BillfishError INVALID_OPTION
 */
export function deviceName(value: unknown, option = 'deviceMap'): string {
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 0 && value < 10_000) return `cuda:${value}`
    throw new BillfishError(
      'INVALID_OPTION',
      `${option}: ${value} is not a device; a number is a CUDA device's index. For the CPU write 'cpu'.`,
    )
  }
  if (typeof value === 'string') {
    if (value === 'disk' || value === 'cpu') return value
    if (value === 'cuda') return 'cuda:0'
    // Emulated devices are CUDA devices in the emulator, for tests. 'cpu:01' means 'cpu:1'.
    const [, kind = 'cuda', index] = /^(?:(cpu|cuda|emulated):)?(\d{1,4})$/.exec(value) ?? []
    if (index !== undefined) return `${kind}:${Number(index)}`
  }
  throw new BillfishError(
    'INVALID_OPTION',
    `${option}: ${printed(value)} is not a device; use 'cpu', 'cpu:0', 'cpu:1', ..., 'disk', 'cuda:0', ... or a CUDA index.`,
  )
}

/**
 * The device of every module, in the order of `modules`, and behind a layer of its experts if they are on another one.
 * Keys that name a module or something inside it take precedence
 * over prefixes; among prefixes the longest wins.
 * @param modules modules that are placed as a whole: embedding, each decoder layer, final norm, head
 * @param experts layer -> name of its experts, for layers that have any
 * @throws BillfishError INVALID_OPTION for an unknown device, a key that matches nothing in the model, keys that would
 *   split a module, experts of a layer that has none, or modules without a device (all are listed)
 */
export function resolveDeviceMap(
  deviceMap: DeviceMap,
  modules: readonly string[],
  experts: ReadonlyMap<string, string> = new Map(),
): Map<string, string> {
  const map = typeof deviceMap === 'object' && deviceMap !== null ? deviceMap : { '': deviceMap }
  const keys = new MapKeys(modules, experts)
  const byPrefix = new Map<string, PlacedKey>()
  const byModule = new Map<string, PlacedKey>()
  for (const [key, value] of Object.entries(map)) {
    const meaning = keys.meaningOf(key)
    if (meaning === undefined) throw noSuchModule(key, modules)
    const device = groupName(value)
    if (meaning === 'not placed') continue
    if ('dense' in meaning) throw noExperts(key, meaning.dense)
    const [placed, name] = 'module' in meaning ? [byModule, meaning.module] : [byPrefix, meaning.prefix]
    const other = placed.get(name)
    const own = { key, device, isMlp: 'module' in meaning && meaning.isMlp }
    if (other !== undefined && other.device !== device) throw contradiction(name, other, own, experts.get(name))
    placed.set(name, { ...own, isMlp: own.isMlp && other?.isMlp !== false })
  }

  const placed = new Map<string, string>()
  const missing: string[] = []
  for (const module of modules) {
    const prefix = [...prefixesOf(module), ''].find((candidate) => byPrefix.has(candidate)) ?? ''
    const [own, around] = [byModule.get(module), byPrefix.get(prefix)]
    const device = (own ?? around)?.device
    if (device === undefined) {
      missing.push(module)
      continue
    }
    // `mlp` may stand for the experts, or for the layer as it does where there are none: neither is guessed.
    if (own?.isMlp && around && around.device !== device) throw contradiction(module, around, own, experts.get(module))
    placed.set(module, device)
    const name = experts.get(module)
    const ofExperts = name && (byModule.get(name) ?? byPrefix.get(keys.allExperts ?? name))
    if (ofExperts && ofExperts.device !== device) placed.set(name, ofExperts.device)
  }
  if (missing.length > 0) {
    throw new BillfishError(
      'INVALID_OPTION',
      `deviceMap leaves out ${missing.length} of ${modules.length} modules: ${summary(missing)}. Give each a device, or use the prefix '' for all of them.`,
    )
  }
  return placed
}

interface PlacedKey {
  readonly key: string
  readonly device: string
  /** Whether all keys that place it are the MLP of a layer with experts. */
  readonly isMlp: boolean
}

/** @param experts those of the layer `name`, which may be elsewhere */
function contradiction(name: string, one: PlacedKey, other: PlacedKey, experts: string | undefined): BillfishError {
  const whole = name === '' ? 'the whole model' : name
  const apart = experts === undefined ? '' : `; of a layer, only its experts (${printed(experts)}) may be elsewhere`
  return new BillfishError(
    'INVALID_OPTION',
    `deviceMap: ${whole} cannot be split, but ${printed(one.key)} is on ${one.device} and ${printed(other.key)} on ${other.device}. Give both the same device${apart}.`,
  )
}

function noExperts(key: string, layer: string): BillfishError {
  return new BillfishError(
    'INVALID_OPTION',
    `deviceMap: ${printed(key)} places experts, but ${layer} has none. Place the layer as a whole, or omit the key.`,
  )
}

function noSuchModule(key: string, modules: readonly string[]): BillfishError {
  return new BillfishError(
    'INVALID_OPTION',
    `deviceMap: this model has no module ${printed(key)}. Its modules are ${summary(modules)}.`,
  )
}

function summary(names: readonly string[]): string {
  return names.length <= 8 ? names.join(', ') : `${names.slice(0, 4).join(', ')}, ... ${names.slice(-3).join(', ')}`
}

const LLAMA_NAMES: ModuleNames = {
  embedding: 'model.embed_tokens',
  layers: 'model.layers',
  norm: 'model.norm',
  head: 'lm_head',
}

const moduleNames = z
  .strictObject({ embedding: z.string(), layers: z.string(), norm: z.string(), head: z.string() })
  .describe('an object { embedding, layers, norm, head } of module names')
const MAX_LAYERS = 10_000

/**
 * A map that spreads `layers` decoder layers over `devices` in order, (layers + 2) / devices modules each. The
 * embedding goes to the first device, final norm and head to the last.
 * @param devices device names, or a number of GPUs: 4 means cuda:0 to cuda:3
 * @param names module names of the model; those of Llama, Qwen2, Qwen3 and Mistral by default
 * @throws BillfishError INVALID_OPTION
 */
export function layerSplit(
  devices: readonly (string | number)[] | number,
  layers: number,
  names: ModuleNames = LLAMA_NAMES,
): Record<string, string> {
  const { embedding, layers: prefix, norm, head } = readValue(moduleNames, names, 'layerSplit: names')
  const count = splitLayers(layers)
  const targets = splitDevices(devices, count)
  const share = (count + 2) / targets.length
  const map: Record<string, string> = { [embedding]: targets[0] as string }
  let target = 0
  let used = 1 // the embedding
  for (let i = 0; i < count; i++) {
    if (used >= share && target + 1 < targets.length) {
      target++
      used = 0
    }
    map[`${prefix}.${i}`] = targets[target] as string
    used++
  }
  const last = targets.at(-1) as string
  map[norm] = last
  map[head] = last
  return map
}

function splitLayers(layers: unknown): number {
  if (typeof layers === 'number' && Number.isInteger(layers) && layers >= 1 && layers <= MAX_LAYERS) return layers
  const order = guarded('layerSplit: layers', () => Array.isArray(layers)) ? '; the first argument is devices' : ''
  throw invalidOption('layerSplit: layers', layers, `a whole number from 1 to ${MAX_LAYERS}${order}`)
}

function splitDevices(devices: unknown, layers: number): string[] {
  if (typeof devices !== 'number') {
    const list = snapshot(devices, 'layerSplit: devices')
    if (!Array.isArray(list)) throw noSplitDevices(devices)
    if (list.length === 0) {
      throw new BillfishError('INVALID_OPTION', 'layerSplit: devices is empty; give at least one device.')
    }
    return list.map((device) => deviceName(device, 'layerSplit: devices'))
  }
  if (!Number.isInteger(devices) || devices < 1) throw noSplitDevices(devices)
  if (devices > layers) {
    throw new BillfishError(
      'INVALID_OPTION',
      `layerSplit: ${devices} GPUs for ${layers} layers. The first argument is devices, the second layers: layerSplit(4, 80).`,
    )
  }
  return Array.from({ length: devices }, (_, index) => deviceName(index))
}

function noSplitDevices(devices: unknown): BillfishError {
  return invalidOption('layerSplit: devices', devices, "an array such as ['cuda:0', 'cuda:1'], or a number of GPUs")
}
