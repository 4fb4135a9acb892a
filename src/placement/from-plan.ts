import { shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError } from '../errors'
import type { SizeOptions } from '../limits'
import type { ModelPlan, PlanOptions } from './plan-model'

const sizeNames = Object.keys({
  dtype: 0,
  maxModelLength: 0,
  maxSequences: 0,
  maxBatchTokens: 0,
  maxCacheTokens: 0,
  tensorParallelSize: 0,
} satisfies Record<keyof SizeOptions, 0>) as (keyof SizeOptions)[]

/**
 * The options by which a model is loaded as planned: the plan's placement and sizes, within the budgets that it was made
 * for. Whether its modules are this model's shows when the device map is resolved.
 * @param options what else is given; it may repeat the plan's sizes, but not contradict them
 * @throws BillfishError INVALID_OPTION for a plan that is none, and for options that the plan has decided otherwise
 */
export function fromPlan(plan: ModelPlan, options: PlanOptions): PlanOptions {
  if (!isObject(plan) || !isObject(plan.deviceMap) || !isObject(plan.sizes) || !Array.isArray(plan.stages)) {
    throw new BillfishError(
      'INVALID_OPTION',
      'plan is not a plan; give what planModel() returned, as it is or read from JSON.',
    )
  }
  for (const name of ['deviceMap', 'devices', 'maxMemory', 'deviceOverhead'] as const) {
    if (options[name] === undefined) continue
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} is given beside plan, which has placed the modules already. Plan again with it, or leave one of them out.`,
    )
  }
  for (const name of sizeNames) {
    const [given, planned] = [options[name], plan.sizes[name]]
    if (given === undefined || given === planned) continue
    const made = planned === undefined ? 'without it' : `for ${shown(planned)}`
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} is ${shown(given)}, but the plan was made ${made}. Plan again with it, or leave it out.`,
    )
  }
  const budgets = plan.stages.flatMap(({ device, budget }) => (typeof budget === 'number' ? [[device, budget]] : []))
  const overheads: Record<string, number> = {}
  for (const { device, overhead } of plan.stages) overheads[device] = (overheads[device] ?? 0) + overhead
  return {
    ...plan.sizes,
    deviceMap: plan.deviceMap,
    maxMemory: budgets.length > 0 ? Object.fromEntries(budgets) : undefined,
    deviceOverhead: overheads,
  }
}
