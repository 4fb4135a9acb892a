import type { Budget, InferredDevice } from './budgets'
import { contains, type ModuleNode } from './module-tree'

/** The modules that have no device yet, in order: those from `at` on, so that a long list is not copied for each. */
class Pending {
  readonly #modules: readonly ModuleNode[]
  readonly #at: number
  /** For each module the largest part of those behind it. */
  readonly #largest: number[]

  constructor(
    modules: readonly ModuleNode[],
    at = 0,

    largest = largestBehind(modules),
  ) {
    this.#modules = modules
    this.#at = at
    this.#largest = largest
  }

  get first(): ModuleNode | undefined {
    return this.#modules[this.#at]
  }

  behindFirst(): ModuleNode[] {
    return this.#modules.slice(this.#at + 1)
  }

  largestBehindFirst(): number {
    return this.#largest[this.#at] as number
  }

  /** The others once the first one is placed, and with it some of them. */
  without(companions: readonly ModuleNode[]): Pending {
    if (companions.length === 0) return new Pending(this.#modules, this.#at + 1, this.#largest)
    return new Pending(this.behindFirst().filter((other) => !companions.includes(other)))
  }

  /** With the module's children in its place. */
  split(module: ModuleNode): Pending {
    return new Pending(this.#modules.slice(this.#at).flatMap((other) => (other === module ? module.children : [other])))
  }
}

function largestBehind(modules: readonly ModuleNode[]): number[] {
  const largest: number[] = []
  for (let i = modules.length - 1, most = 0; i >= 0; i--) {
    largest[i] = most
    most = Math.max(most, modules[i]?.largestPart ?? 0)
  }
  return largest
}

/**
 * Fills one device after the other with the model's modules in their order, splitting a module only where it does not
 * fit as a whole. A device that was left is not visited again, so that consecutive layers stay together.
 * @param tied groups of parameter names that are one weight; modules that share one go to one device
 * @param budgets in the order of filling; the last one has no bound
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
      const reserve = keepsRoom ? pending.largestBehindFirst() : 0
      const room = budget.bytes - reserve - used
      const companions = companionsOf(module, pending, tied)
      const needed = companions.reduce((total, { size }) => total + size, module.size)

      if (needed <= room) {
        for (const { name } of [module, ...companions]) placed.set(name, budget.device)
        used += needed
        pending = pending.without(companions)
        continue
      }
      // Alone it fits: a smaller part of its companions may be all that has to come along.
      const companion = module.size <= room ? companions.find(isDivisible) : undefined
      if (companion) {
        pending = pending.split(companion)
        continue
      }
      // As accelerate has it, a module that would fill the device to the last byte counts as too large here.
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
 * Offloaded layers are computed on the first GPU, and those on disk pass through the CPU's memory. Both therefore keep
 * room for the largest layer still to be placed, whether or not any will be offloaded.
 */
function hostsOffloadedLayers(budget: Budget, budgets: readonly Budget[]): boolean {
  return budget.device === 'cpu' || (typeof budget.device === 'number' && budget === budgets[0])
}

/**
 * What of `pending` is tied to something in `module`, its first. A tied weight is counted under the first of its names, so that what
 * the companions' sizes say is what they bring.
 */
function companionsOf(module: ModuleNode, pending: Pending, tied: readonly (readonly string[])[]): ModuleNode[] {
  const shared = tied
    .filter((group) => group.some((name) => contains(module.name, name)))
    .flatMap((group) => group.filter((name) => !contains(module.name, name)))
  if (shared.length === 0) return []
  return pending.behindFirst().filter(({ name }) => shared.some((parameter) => contains(name, parameter)))
}

function isDivisible(module: ModuleNode): boolean {
  return module.children.length > 0
}
