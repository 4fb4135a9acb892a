import type { Budget, InferredDevice } from './budgets'
import { contains, type ModuleNode } from './module-tree'

/** Modules without a device yet, in order, starting at index `at`: a long list is not copied for each step. */
class Pending {
  readonly #modules: readonly ModuleNode[]
  readonly #at: number
  /** For each module the largest unsplittable part of the modules after it. */
  readonly #largest: number[]

  constructor(
    modules: readonly ModuleNode[],
    at = 0,

    largest = largestAfter(modules),
  ) {
    this.#modules = modules
    this.#at = at
    this.#largest = largest
  }

  get first(): ModuleNode | undefined {
    return this.#modules[this.#at]
  }

  afterFirst(): ModuleNode[] {
    return this.#modules.slice(this.#at + 1)
  }

  largestAfterFirst(): number {
    return this.#largest[this.#at] as number
  }

  /** What remains after the first module and its companions are placed. */
  without(companions: readonly ModuleNode[]): Pending {
    if (companions.length === 0) return new Pending(this.#modules, this.#at + 1, this.#largest)
    return new Pending(this.afterFirst().filter((other) => !companions.includes(other)))
  }

  /** Replaces the module with its children. */
  split(module: ModuleNode): Pending {
    return new Pending(this.#modules.slice(this.#at).flatMap((other) => (other === module ? module.children : [other])))
  }
}

function largestAfter(modules: readonly ModuleNode[]): number[] {
  const largest: number[] = []
  for (let i = modules.length - 1, most = 0; i >= 0; i--) {
    largest[i] = most
    most = Math.max(most, modules[i]?.largestPart ?? 0)
  }
  return largest
}

/**
 * Fills one device after the other with the modules of the model in order. A module is split only if it does not fit as
 * a whole. A full device is not revisited, so consecutive layers stay together.
 * @param tied groups of parameter names that are one weight; modules that share one are placed on one device
 * @param budgets in filling order; the last one is unlimited
 * @returns the device of every module that was placed as a whole
 */
export function fillDevices(
  model: ModuleNode,
  tied: readonly (readonly string[])[],
  budgets: readonly Budget[],
): Map<string, InferredDevice> {
  const placed = new Map<string, InferredDevice>()
  let pending = new Pending(model.children)
  for (const budget of budgets) {
    const keepsRoom = hostsOffloadedLayers(budget, budgets)
    let used = 0
    while (true) {
      const module = pending.first
      if (!module) return placed
      const reserve = keepsRoom ? pending.largestAfterFirst() : 0
      const room = budget.bytes - reserve - used
      const companions = companionsOf(module, pending, tied)
      const needed = companions.reduce((total, { size }) => total + size, module.size)

      if (needed <= room) {
        for (const { name } of [module, ...companions]) placed.set(name, budget.device)
        used += needed
        pending = pending.without(companions)
        continue
      }
      // It fits alone: a smaller part of a companion may be enough.
      const companion = module.size <= room ? companions.find(isDivisible) : undefined
      if (companion) {
        pending = pending.split(companion)
        continue
      }
      // As in accelerate, a module that would fill the device to the last byte is too large.
      if (module.size >= room && isDivisible(module)) {
        pending = pending.split(module)
        continue
      }
      break
    }
  }
  return placed
}

/**
 * Offloaded layers run on the first GPU, and layers on disk pass through CPU memory, so both reserve room for the
 * largest remaining layer, whether or not any layer is offloaded.
 */
function hostsOffloadedLayers(budget: Budget, budgets: readonly Budget[]): boolean {
  return budget.device === 'cpu' || (typeof budget.device === 'number' && budget === budgets[0])
}

/**
 * Modules of `pending` that are tied to something in `module`, its first. A tied weight counts towards the first of its
 * names, so the sizes of companions are what they add.
 */
function companionsOf(module: ModuleNode, pending: Pending, tied: readonly (readonly string[])[]): ModuleNode[] {
  const shared = tied
    .filter((group) => group.some((name) => contains(module.name, name)))
    .flatMap((group) => group.filter((name) => !contains(module.name, name)))
  if (shared.length === 0) return []
  return pending.afterFirst().filter(({ name }) => shared.some((parameter) => contains(name, parameter)))
}

function isDivisible(module: ModuleNode): boolean {
  return module.children.length > 0
}
