import type { Budget, InferredDevice } from './budgets'
import { contains, type ModuleNode } from './module-tree'

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
  let pending = model.children
  for (const budget of budgets) {
    const keepsRoom = hostsOffloadedLayers(budget, budgets)
    let used = 0
    while (true) {
      const [module, ...rest] = pending
      if (!module) return placed
      const reserve = keepsRoom ? Math.max(0, ...rest.map(({ largestPart }) => largestPart)) : 0
      const room = budget.bytes - reserve - used
      const companions = companionsOf(module, rest, tied)
      const needed = companions.reduce((total, { size }) => total + size, module.size)

      if (needed <= room) {
        for (const { name } of [module, ...companions]) placed.set(name, budget.device)
        used += needed
        pending = rest.filter((other) => !companions.includes(other))
        continue
      }
      // Alone it fits: a smaller part of its companions may be all that has to come along.
      const companion = module.size <= room ? companions.find(isDivisible) : undefined
      if (companion) {
        pending = split(pending, companion)
        continue
      }
      // As accelerate has it, a module that would fill the device to the last byte counts as too large here.
      if (module.size >= room && isDivisible(module)) {
        pending = split(pending, module)
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
 * What of `rest` is tied to something in `module`. A tied weight is counted under the first of its names, so that what
 * the companions' sizes say is what they bring.
 */
function companionsOf(
  module: ModuleNode,
  rest: readonly ModuleNode[],
  tied: readonly (readonly string[])[],
): ModuleNode[] {
  const shared = tied
    .filter((group) => group.some((name) => contains(module.name, name)))
    .flatMap((group) => group.filter((name) => !contains(module.name, name)))
  return rest.filter(({ name }) => shared.some((parameter) => contains(name, parameter)))
}

function isDivisible(module: ModuleNode): boolean {
  return module.children.length > 0
}

function split(pending: readonly ModuleNode[], module: ModuleNode): ModuleNode[] {
  return pending.flatMap((other) => (other === module ? module.children : [other]))
}
