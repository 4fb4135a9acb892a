import { BillfishError } from '../errors'
import { type Budget, balanceBudgets, type InferredDevice, parseBudgets } from './budgets'
import { fillDevices } from './fill-devices'
import type { MemorySize } from './memory-size'
import { contains, type ModuleNode, moduleTree } from './module-tree'

const strategies = ['auto', 'balanced', 'balanced_low_0', 'sequential'] as const

/**
 * How Hugging Face spreads a model: `'sequential'` fills one GPU after the other, `'balanced'` gives each about as much,
 * `'balanced_low_0'` spares the first one, and `'auto'` is `'balanced'`.
 */
export type InferStrategy = (typeof strategies)[number]

/** What a model is made of, as accelerate counts it. */
export interface InferModules {
  /** Module -> bytes of all weights in it, in the model's order; `''` is the whole model. */
  readonly modules: Readonly<Record<string, number>>
  /** Groups of parameter names that are one weight: `[['lm_head.weight', 'model.embed_tokens.weight']]`. */
  readonly tied?: readonly (readonly string[])[]
  /**
   * Classes whose modules are never split, such as `['Qwen2DecoderLayer']`. Sizes carry no classes: they are taken to be
   * those of the numbered modules (`model.layers.0`). Without any, layers may be split if their insides are listed.
   */
  readonly noSplit?: readonly string[]
  /** Mean bytes of the modules that have none in them (linears, norms, embeddings), also where `modules` is coarser. */
  readonly leaves: { readonly mean_bytes: number; readonly final_modules?: number }
}

export interface InferOptions {
  readonly strategy: InferStrategy
  /**
   * Budget of each device, by CUDA index, `'cpu'` and `'disk'`. The CPU is used only if it is named; the disk is always
   * the last resort, and its budget is no bound.
   */
  readonly maxMemory: Readonly<Record<string | number, MemorySize>>
}

/** Module -> CUDA index, `'cpu'` or `'disk'`; modules whose parts share a device are one entry, up to `{ '': 0 }`. */
export type InferredDeviceMap = Record<string, InferredDevice>

/**
 * The device map that Hugging Face's accelerate makes of a model, for those who rely on its answer. It knows of weights
 * alone: no KV cache, no buffers.
 * @throws BillfishError INVALID_OPTION for an unknown strategy, no or unreadable budgets, sizes that are none or that
 *   contradict each other, and tied names that no module has
 */
export function inferDeviceMap(model: InferModules, { strategy, maxMemory }: InferOptions): InferredDeviceMap {
  if (!strategies.includes(strategy)) {
    throw new BillfishError(
      'INVALID_OPTION',
      `strategy: ${JSON.stringify(strategy)} is none of ${strategies.map((name) => `'${name}'`).join(', ')}.`,
    )
  }
  return inferWithin(model, strategy, parseBudgets(maxMemory))
}

/**
 * {@link inferDeviceMap} for budgets that are numbers already.
 * @param limits in the order of filling: CUDA devices by index, the CPU where it may be used, and the disk; a GPU's or
 *   the CPU's may be Infinity
 */
export function inferWithin(
  model: InferModules,
  strategy: InferStrategy,
  limits: readonly Budget[],
): InferredDeviceMap {
  const { modules, tied = [], noSplit = [] } = model
  const tree = moduleTree(modules, noSplit.length > 0)
  checkTied(tied, tree)
  const meanFinalModule = checkedMean(model.leaves)

  const budgets =
    strategy === 'sequential' ? limits : balanceBudgets(limits, tree, meanFinalModule, strategy === 'balanced_low_0')
  return Object.fromEntries(joinEqual(tree, fillDevices(tree, tied, budgets)))
}

function checkedMean(leaves: InferModules['leaves']): number {
  const mean = leaves?.mean_bytes
  if (typeof mean === 'number' && Number.isFinite(mean) && mean >= 0) return mean
  throw new BillfishError(
    'INVALID_OPTION',
    `leaves.mean_bytes is ${mean}; it must be the mean bytes of the modules without modules in them, 0 or more.`,
  )
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

/** Entries with modules whose parts are all on one device written as one. */
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
