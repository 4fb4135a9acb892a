import { Budget, BudgetExhausted, type BudgetLimits } from './budget'
import { PythonError } from './errors'
import { Interpreter } from './evaluate/runtime'
import { type Execute, StatementCompiler, TemplateReference } from './evaluate/statements'
import { unboundNames } from './evaluate/unbound-names'
import { parseTemplate } from './language/parser'
import { GLOBALS } from './library/globals'
import type { Value } from './values/values'

/** A compiled template; can be rendered any number of times. */
export interface CompiledTemplate {
  readonly run: Execute
  readonly blocks: ReadonlyMap<string, Execute>
  /** Variables that are undefined until the template scope sets them. */
  readonly unset: ReadonlySet<string> | undefined
  /** Steps of executing each statement once. */
  readonly cost: number
}

/**
 * Parses and compiles a template in the chat-template environment of transformers: Jinja2 3.1 with trim_blocks,
 * lstrip_blocks, loop controls and the generation tag.
 * @throws TemplateSyntaxError
 * @throws BudgetExhausted
 */
export function compileTemplate(source: string, limits: BudgetLimits): CompiledTemplate {
  return stackGuarded(limits, () => {
    const budget = new Budget(limits)
    const body = parseTemplate(source, budget)
    const unset = unboundNames(body, budget)
    const compiler = new StatementCompiler(unset)
    const run = compiler.body(body)
    return { run, blocks: compiler.blocks, unset: unset.get(body), cost: compiler.cost }
  })
}

/**
 * Renders a template.
 * @param now for strftime_now
 * @throws PythonError for exceptions of Python; the message names the line
 * @throws BudgetExhausted
 */
export function renderTemplate(
  template: CompiledTemplate,
  variables: ReadonlyMap<string, Value>,
  limits: BudgetLimits,
  now = new Date(),
): string {
  const rt = new Interpreter(new Budget(limits), now, { globals: GLOBALS, variables, unset: template.unset })
  rt.globals.set('self', new TemplateReference(template.blocks))
  return stackGuarded(limits, () => {
    try {
      rt.budget.step(template.cost)
      template.run(rt.root)
      return rt.out
    } catch (error) {
      if (!(error instanceof PythonError) || error.type === 'TemplateError') throw error
      throw new PythonError(error.type, `line ${rt.line}: ${error.type}: ${error.message}`)
    }
  })
}

/**
 * Reports stack overflow as exceeded depth, since the caller may have left less stack than usual, and oversized strings
 * and arrays as exceeded bytes.
 */
function stackGuarded<T>(limits: BudgetLimits, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new BudgetExhausted(/call stack/.test(error.message) ? 'depth' : 'bytes', limits)
  }
}
