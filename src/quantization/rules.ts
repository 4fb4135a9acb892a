/** Which of a config's rules a module falls under. */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import type { ModuleOverrides, ModuleRule } from '../checkpoint/types'
import type { ConfigFields } from './fields'
import { Pattern } from './pattern'

export const MAX_RULES = 1000

/** Milliseconds that the patterns of one config may take together: a hundred times what is usual. */
const TIME_LIMIT = 1000

/** What has been decided for a config, and how long that took. */
class Decisions<Decision> {
  readonly #known = new Map<string, Decision>()
  #spent = 0

  /** @throws BillfishError INVALID_CHECKPOINT where all decisions together take too long */
  of(module: string, decide: (inTime: <Result>(run: () => Result) => Result) => Decision): Decision {
    const decided = this.#known.get(module)
    if (decided !== undefined || this.#known.has(module)) return decided as Decision
    const decision = decide((run) => this.#inTime(run))
    this.#known.set(module, decision)
    return decision
  }

  #inTime<Result>(run: () => Result): Result {
    const start = performance.now()
    const result = run()
    this.#spent += performance.now() - start
    if (this.#spent <= TIME_LIMIT) return result
    throw invalidCheckpoint(
      `The patterns of the quantization config take longer than ${TIME_LIMIT / 1000} s together; write them in simpler terms`,
    )
  }
}

const decisions = new WeakMap<object, Decisions<unknown>>()

/**
 * What `decide` says of a module, once a module for every `owner`. `decide` runs each pattern in `inTime`.
 *
 * @throws BillfishError INVALID_CHECKPOINT where the patterns of an owner take too long
 */
export function decideOnce<Decision>(
  owner: object,
  module: string,
  decide: (inTime: <Result>(run: () => Result) => Result) => Decision,
): Decision {
  let own = decisions.get(owner) as Decisions<Decision> | undefined
  if (own === undefined) {
    own = new Decisions()
    decisions.set(owner, own)
  }
  return own.of(module, decide)
}

/** The first rule, in their order, whose pattern fits. @throws BillfishError INVALID_CHECKPOINT for a bad pattern */
export function ruleFor(rules: readonly ModuleRule[], module: string): ModuleRule | undefined {
  const fits = ({ pattern, match, where }: ModuleRule) => {
    if (match === 'exact') return pattern === module
    const compiled = Pattern.of(pattern, where)
    return match === 'start' ? compiled.matchesStart(module) : compiled.matchesAnywhere(module)
  }
  if (rules.length === 0) return undefined
  return decideOnce(rules, module, (inTime) => rules.find((rule) => inTime(() => fits(rule))))
}

/** Whether a rule leaves the module unquantized. */
export function isSkipped({ rules }: { readonly rules: readonly ModuleRule[] }, module: string): boolean {
  return ruleFor(rules, module)?.action === 'leaveOut'
}

/** The config with a module's rule applied. @throws BillfishError INVALID_CHECKPOINT */
export function forModule<Config extends { readonly rules: readonly ModuleRule[] }>(
  config: Config,
  module: string,
): Config & ModuleOverrides {
  const action = ruleFor(config.rules, module)?.action
  if (action === undefined || action === 'leaveOut') return config
  const said = Object.entries(action).filter(([, value]) => value !== undefined)
  return { ...config, ...Object.fromEntries(said) }
}

/** A rule's fields. @throws BillfishError INVALID_CHECKPOINT */
export function readOverrides(fields: ConfigFields): ModuleOverrides {
  return {
    bits: fields.integer('bits', 'w_bit', 'wbits'),
    groupSize: fields.groupSize(),
    symmetric: fields.get('sym') === undefined ? undefined : fields.boolean(true, 'sym'),
    actOrder: fields.get('desc_act') === undefined ? undefined : fields.boolean(true, 'desc_act'),
  }
}

/** @throws BillfishError INVALID_CHECKPOINT for more rules than are read */
export function checkRuleCount(fields: ConfigFields, name: string, count: number): void {
  if (count > MAX_RULES) throw fields.invalid(name, `${count} rules`, `at most ${MAX_RULES} rules`)
}

/** For messages. */
export function ruleText(field: string, key: string): string {
  return `The quantization config's ${field} rule ${quoted(key)}`
}
