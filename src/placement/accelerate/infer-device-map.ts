import { z } from 'zod'
import { BillfishError } from '../../common/errors'
import { optionsOf, readOptions } from '../../options/read-options'
import { type MemorySize, memorySize } from '../memory-size'
import { type Budget, balanceBudgets, type InferredDevice, parseBudgets } from './budgets'
import { fillDevices } from './fill-devices'
import { contains, type ModuleNode, moduleTree } from './module-tree'

const STRATEGIES = ['auto', 'balanced', 'balanced_low_0', 'sequential'] as const satisfies readonly InferStrategy[]

/**
 * accelerate's placement strategies: `'sequential'` fills one GPU after the other, `'balanced'` gives each about the
 * same, `'balanced_low_0'` keeps the first one light, and `'auto'` is `'balanced'`.
 */
export type InferStrategy = 'auto' | 'balanced' | 'balanced_low_0' | 'sequential'

/** The modules of a model, as accelerate counts them. */
export interface InferModules {
  /** Module -> bytes of all its weights, in model order; `''` is the whole model. */
  readonly modules: Readonly<Record<string, number>>
  /** Groups of parameter names that share one weight: `[['lm_head.weight', 'model.embed_tokens.weight']]`. */
  readonly tied?: readonly (readonly string[])[] | undefined
  /**
   * Classes whose modules are never split, such as `['Qwen2DecoderLayer']`. Sizes carry no classes, so this applies to
   * numbered modules (`model.layers.0`). If omitted, layers may be split if their submodules are listed.
   */
  readonly noSplit?: readonly string[] | undefined
  /** Mean bytes of the leaf modules (linears, norms, embeddings), even if `modules` is coarser. */
  readonly leaves: { readonly mean_bytes: number; readonly final_modules?: number | undefined }
}

/** Options of {@link inferDeviceMap}. */
export interface InferOptions {
  readonly strategy: InferStrategy
  /**
   * Budget per device: CUDA index, `'cpu'` or `'disk'`. The CPU is used only if listed; the disk is always the last
   * resort and unlimited.
   */
  readonly maxMemory: Readonly<Record<string | number, MemorySize>>
}

/**
 * Module -> CUDA index, `'cpu'` or `'disk'`. A module whose parts share a device is one entry; at best the map is `{
 * '': 0 }`.
 */
export type InferredDeviceMap = Record<string, InferredDevice>

const bytes = z.number().nonnegative().describe('a finite number of bytes, 0 or more')
const names = z.array(z.string()).describe('an array of names')
const MAX_NAME_LENGTH = 1000

const inferModules = optionsOf<InferModules>(
  "inferDeviceMap()'s model",
  {
    modules: z
      .record(z.string().max(MAX_NAME_LENGTH), bytes)
      .describe(`an object of modules (names of at most ${MAX_NAME_LENGTH} characters) and their bytes`),
    tied: z.array(names).describe('an array of groups of names'),
    noSplit: names,
    leaves: z
      .strictObject({ mean_bytes: bytes, final_modules: z.number().describe('a number').optional() })
      .describe('an object { mean_bytes: number }, of the modules without modules in them'),
  },
  ['modules', 'leaves'],
)

const inferOptions = optionsOf<InferOptions>(
  'inferDeviceMap()',
  {
    strategy: z.enum(STRATEGIES).describe("'auto', 'balanced', 'balanced_low_0' or 'sequential'"),
    maxMemory: z
      .record(z.string(), memorySize())
      .describe("an object of devices and their sizes, such as { 0: '20GiB', cpu: '64GiB' }"),
  },
  ['strategy', 'maxMemory'],
)

/**
 * The device map that Hugging Face's accelerate computes for a model. It considers weights only: no KV cache, no
 * buffers.
 * @throws BillfishError INVALID_OPTION for an unknown strategy, missing or invalid budgets, invalid or contradictory
 *   sizes, and tied names that no module contains
 */
export function inferDeviceMap(model: InferModules, options: InferOptions): InferredDeviceMap {
  const modules = readOptions(inferModules, model, 'model')
  const { strategy, maxMemory } = readOptions(inferOptions, options)
  return inferWithin(modules, strategy, parseBudgets(maxMemory))
}

/**
 * {@link inferDeviceMap} with parsed budgets.
 * @param limits in filling order: CUDA devices by index, the CPU if it may be used, and the disk; GPU and CPU budgets
 *   may be Infinity
 */
export function inferWithin(
  model: InferModules,
  strategy: InferStrategy,
  limits: readonly Budget[],
): InferredDeviceMap {
  const { modules, tied = [], noSplit = [] } = model
  const tree = moduleTree(modules, noSplit.length > 0)
  checkTied(tied, tree)
  const meanFinalModule = model.leaves.mean_bytes

  const budgets =
    strategy === 'sequential' ? limits : balanceBudgets(limits, tree, meanFinalModule, strategy === 'balanced_low_0')
  return Object.fromEntries(joinEqual(tree, fillDevices(tree, tied, budgets)))
}

function checkTied(tied: readonly (readonly string[])[], tree: ModuleNode): void {
  for (const name of tied.flat()) {
    let module = tree
    let within: ModuleNode | undefined = tree
    while (within) {
      module = within
      within = module.children.find((child) => contains(child.name, name))
    }
    if (module.children.length === 0) continue
    throw new BillfishError(
      'INVALID_OPTION',
      `tied: no module listed in modules holds ${JSON.stringify(name)}; ${module.name || 'the model'} consists of ` +
        `${shortList(module.children.map((child) => child.name))}. Give a parameter of one of these.`,
    )
  }
}

function shortList(names: readonly string[]): string {
  return names.length <= 6 ? names.join(', ') : `${names.slice(0, 3).join(', ')}, ... ${names.at(-1)}`
}

/** Merges the entries of modules whose parts are all on one device. */
function joinEqual(module: ModuleNode, placed: ReadonlyMap<string, InferredDevice>): [string, InferredDevice][] {
  const device = placed.get(module.name)
  if (device !== undefined) return [[module.name, device]]
  const [first, ...others] = devicesWithin(module, placed)
  if (first !== undefined && others.length > 0 && others.every((other) => other === first))
    return [[module.name, first]]
  return module.children.flatMap((child) => joinEqual(child, placed))
}

function devicesWithin(module: ModuleNode, placed: ReadonlyMap<string, InferredDevice>): InferredDevice[] {
  const device = placed.get(module.name)
  return device === undefined ? module.children.flatMap((child) => devicesWithin(child, placed)) : [device]
}
