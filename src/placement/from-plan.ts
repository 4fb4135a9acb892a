import { shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError } from '../errors'
import type { SizeOptions } from '../limits'
import type { ModelPlan, PlanOptions } from './plan-model'

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
  for (const name of ['deviceMap', 'devices', 'maxMemory'] as const) {
    if (options[name] === undefined) continue
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} is given beside plan, which has placed the modules already. Plan again with it, or leave one of them out.`,
    )
  }
  for (const [name, planned] of Object.entries(plan.sizes)) {
    const given = options[name as keyof SizeOptions]
    if (given === undefined || given === planned) continue
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} is ${shown(given)}, but the plan was made for ${shown(planned)}. Plan again with it, or leave it out.`,
    )
  }
  const budgets = plan.stages.flatMap(({ device, budget }) => (typeof budget === 'number' ? [[device, budget]] : []))
  return {
    ...plan.sizes,
    deviceMap: plan.deviceMap,
    maxMemory: budgets.length > 0 ? Object.fromEntries(budgets) : undefined,
  }
}
