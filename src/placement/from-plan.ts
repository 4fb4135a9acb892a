import { z } from 'zod'
import { shown } from '../checkpoint/invalid'
import { BillfishError } from '../common/errors'
import { members } from '../options/values'
import type { ResolvedPlanOptions } from './available-devices'
import { type SizeOptions, sizeOptions } from './limits'
import type { ModelPlan } from './plan-model'
import type { PlanOptions } from './plan-options'

const sizeNames = Object.keys(sizeOptions) as (keyof SizeOptions)[]

const optionalSizes = Object.fromEntries(
  Object.entries<z.ZodType>(sizeOptions).map(([name, schema]) => [name, schema.optional()]),
)
const bytes = z.number().nonnegative()

/** The part of a plan that loading reads; the rest is informational. */
export const planSchema = z
  .looseObject({
    deviceMap: z.record(z.string(), z.string()),
    sizes: members(optionalSizes),
    stages: z.array(z.looseObject({ device: z.string(), budget: bytes.nullable(), overhead: bytes })),
  })
  .describe('what planModel() returned, as it is or read from JSON') as z.ZodType<unknown> as z.ZodType<ModelPlan>

/**
 * Options that load a model as planned: the placement, sizes and budgets of the plan. Whether the modules match the
 * model is checked when the device map is resolved.
 * @param options further options; they may repeat the sizes of the plan but not contradict them
 * @throws BillfishError INVALID_OPTION for options that contradict the plan
 */
export function fromPlan(plan: ModelPlan, options: PlanOptions): ResolvedPlanOptions {
  for (const name of ['deviceMap', 'devices', 'maxMemory', 'deviceOverhead'] as const) {
    if (options[name] === undefined) continue
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} cannot be combined with plan, which already places the modules. Plan again with it, or omit one of them.`,
    )
  }
  for (const name of sizeNames) {
    const [given, planned] = [options[name], plan.sizes[name]]
    if (given === undefined || given === planned) continue
    const made = planned === undefined ? 'without it' : `for ${shown(planned)}`
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} is ${shown(given)}, but the plan was made ${made}. Plan again with it, or omit it.`,
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
