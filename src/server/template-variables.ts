import type { TemplateVariables } from './served-models'

/** The variables that an effort sets, and so no default may. */
const OF_EFFORT = new Set(['reasoning_effort', 'enable_thinking'])

/** The variables of a request's chat template: its own, before the server's. What its effort sets has no default. */
export function templateVariables(
  defaults: TemplateVariables,
  own: TemplateVariables | undefined,
  effort?: string,
): TemplateVariables {
  const used = Object.entries(defaults).filter(([name]) => effort === undefined || !OF_EFFORT.has(name))
  return { ...Object.fromEntries(used), ...own }
}
