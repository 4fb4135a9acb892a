/** Finds the config rule that applies to a module. */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import type { ModuleOverrides, ModuleRule } from '../checkpoint/types'
import type { ConfigFields } from './fields'
import { Pattern } from './pattern'

const MAX_RULES = 1000

/** Total milliseconds for the patterns of one config: a hundred times the usual. */
const TIME_LIMIT = 1000

/** Memoized decisions for one config, with the time they took. */
class Decisions<Decision> {
  readonly #known = new Map<string, Decision>()
  #spent = 0

  /** @throws BillfishError INVALID_CHECKPOINT if all decisions together take too long */
  of(module: string, decide: (timed: <Result>(run: () => Result) => Result) => Decision): Decision {
    const decided = this.#known.get(module)
    if (decided !== undefined || this.#known.has(module)) return decided as Decision
    const decision = decide((run) => this.#timed(run))
    this.#known.set(module, decision)
    return decision
  }

  #timed<Result>(run: () => Result): Result {
    const start = performance.now()
    const result = run()
    this.#spent += performance.now() - start
    if (this.#spent <= TIME_LIMIT) return result
    throw invalidCheckpoint(
      `The patterns of the quantization config take longer than ${TIME_LIMIT / 1000} s in total; simplify them`,
    )
  }
}

const decisions = new WeakMap<object, Decisions<unknown>>()

/**
 * Memoizes `decide` per owner and module. `decide` must run each pattern inside `timed`.
 *
 * @throws BillfishError INVALID_CHECKPOINT if the patterns of an owner take too long
 */
export function memoizeDecision<Decision>(
  owner: object,
  module: string,
  decide: (timed: <Result>(run: () => Result) => Result) => Decision,
): Decision {
  let own = decisions.get(owner) as Decisions<Decision> | undefined
  if (own === undefined) {
    own = new Decisions()
    decisions.set(owner, own)
  }
  return own.of(module, decide)
}

/** The first matching rule. @throws BillfishError INVALID_CHECKPOINT for an invalid pattern */
export function ruleFor(rules: readonly ModuleRule[], module: string): ModuleRule | undefined {
  const fits = ({ pattern, match, where }: ModuleRule) => {
    if (match === 'exact') return pattern === module
    const compiled = Pattern.of(pattern, where)
    return match === 'start' ? compiled.matchesStart(module) : compiled.matchesAnywhere(module)
  }
  if (rules.length === 0) return undefined
  return memoizeDecision(rules, module, (timed) => rules.find((rule) => timed(() => fits(rule))))
}

/** Whether a rule leaves the module unquantized. */
export function isSkipped({ rules }: { readonly rules: readonly ModuleRule[] }, module: string): boolean {
  return ruleFor(rules, module)?.action === 'skip'
}

/** The config with the rule of a module applied. @throws BillfishError INVALID_CHECKPOINT */
export function configForModule<Config extends { readonly rules: readonly ModuleRule[] }>(
  config: Config,
  module: string,
): Config & ModuleOverrides {
  const action = ruleFor(config.rules, module)?.action
  if (action === undefined || action === 'skip') return config
  const overrides = Object.entries(action).filter(([, value]) => value !== undefined)
  return { ...config, ...Object.fromEntries(overrides) }
}

/** Reads the override fields of a rule. @throws BillfishError INVALID_CHECKPOINT */
export function readOverrides(fields: ConfigFields): ModuleOverrides {
  return {
    bits: fields.integer('bits', 'w_bit', 'wbits'),
    groupSize: fields.groupSize(),
    symmetric: fields.get('sym') === undefined ? undefined : fields.boolean(true, 'sym'),
    actOrder: fields.get('desc_act') === undefined ? undefined : fields.boolean(true, 'desc_act'),
  }
}

/** @throws BillfishError INVALID_CHECKPOINT for too many rules */
export function checkRuleCount(fields: ConfigFields, name: string, count: number): void {
  if (count > MAX_RULES) throw fields.invalid(name, `${count} rules`, `at most ${MAX_RULES} rules`)
}

/** A rule as named in error messages. */
export function describeRule(field: string, key: string): string {
  return `The quantization config's ${field} rule ${quoted(key)}`
}
