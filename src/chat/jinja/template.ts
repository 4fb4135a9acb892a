import { Budget, BudgetExhausted, type BudgetLimits } from './budget'
import { PythonError } from './errors'
import { Frame } from './evaluate/frame'
import { Runtime } from './evaluate/runtime'
import { type Execute, StatementCompiler, TemplateReference } from './evaluate/statements'
import { parseTemplate } from './language/parser'
import { GLOBALS } from './library/globals'
import type { Value } from './values/values'

/** A template that is ready to be rendered, any number of times. */
export interface CompiledTemplate {
  readonly run: Execute
  readonly blocks: ReadonlyMap<string, Execute>
  /** Steps that executing each statement once takes. */
  readonly cost: number
}

/**
 * Parses and compiles a template as transformers' environment for chat templates does: Jinja2 3.1 with trim_blocks,
 * lstrip_blocks, loop controls and the generation tag.
 * @throws TemplateSyntaxError
 * @throws BudgetExhausted
 */
export function compileTemplate(source: string, limits: BudgetLimits): CompiledTemplate {
  return stackGuarded(limits, () => {
    const compiler = new StatementCompiler()
    const run = compiler.body(parseTemplate(source, new Budget(limits)))
    return { run, blocks: compiler.blocks, cost: compiler.cost }
  })
}

/**
 * The text that a template makes of its variables.
 * @param now - for strftime_now
 * @throws PythonError for what Python would raise; its message names the line
 * @throws BudgetExhausted
 */
export function renderTemplate(
  template: CompiledTemplate,
  variables: ReadonlyMap<string, Value>,
  limits: BudgetLimits,
  now = new Date(),
): string {
  const rt = new Runtime(new Budget(limits), now)
  const globals = new Frame(rt, undefined, new Map(GLOBALS))
  const root = new Frame(rt, globals, new Map(variables))
  globals.set('self', new TemplateReference(template.blocks, root))
  return stackGuarded(limits, () => {
    try {
      rt.budget.step(template.cost)
      template.run(root)
      return rt.out
    } catch (error) {
      if (!(error instanceof PythonError) || error.type === 'TemplateError') throw error
      throw new PythonError(error.type, `line ${rt.line}: ${error.type}: ${error.message}`)
    }
  })
}

/** A stack that overflows is a template that nests too deep: the caller may have left less of it than usual. */
function stackGuarded<T>(limits: BudgetLimits, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof RangeError && /call stack/.test(error.message)) throw new BudgetExhausted('depth', limits)
    throw error
  }
}
