import { typeError } from '../errors'
import { Dict } from '../values/dict'
import { type Named, PythonObject, Tuple, Undefined, type Value } from '../values/values'
import type { Evaluate } from './expressions'
import type { Frame, Interpreter } from './runtime'

/** A compiled macro, or the body of a call block. */
export interface MacroCode {
  /** Undefined for the body of a call block. */
  readonly name: string | undefined
  readonly parameters: readonly string[]
  /** Defaults of the last parameters. */
  readonly defaults: readonly Evaluate[]
  /** Whether the body uses these special variables; a macro accepts extra arguments only if it does. */
  readonly uses: { readonly caller: boolean; readonly kwargs: boolean; readonly varargs: boolean }
  /** Creates the scope of the body. */
  readonly scope: (outer: Frame) => Frame
  readonly body: (frame: Frame) => void
  /** Minimum steps of executing the body once. */
  readonly cost: number
}

/** A callable macro: its code and the scope it was defined in. */
export class Macro extends PythonObject {
  readonly typeName = 'Macro'
  readonly #code: MacroCode
  readonly #scope: Frame

  constructor(code: MacroCode, scope: Frame) {
    super()
    this.#code = code
    this.#scope = scope
  }

  repr(rt: Interpreter): string {
    return `<Macro ${this.#code.name === undefined ? 'anonymous' : rt.repr(this.#code.name)}>`
  }

  override attribute(_rt: Interpreter, name: string): Value | undefined {
    const { uses, parameters } = this.#code
    switch (name) {
      case 'name':
        return this.#code.name ?? null
      case 'arguments':
        return new Tuple(parameters)
      case 'catch_kwargs':
        return uses.kwargs
      case 'catch_varargs':
        return uses.varargs
      case 'caller':
        return uses.caller
      default:
        return undefined
    }
  }

  override get callable(): boolean {
    return true
  }

  override call(rt: Interpreter, args: readonly Value[], named: Named): Value {
    rt.budget.enter()
    rt.budget.step(this.#code.cost)
    const frame = this.#code.scope(this.#scope)
    this.#bind(frame, args, new Map(named))
    const { line } = rt
    const text = rt.capture(() => this.#code.body(frame))
    rt.line = line
    rt.budget.leave()
    return rt.captured(text)
  }

  #bind(frame: Frame, args: readonly Value[], named: Map<string, Value>): void {
    const { parameters, defaults, uses, name } = this.#code
    const missing: number[] = []
    parameters.forEach((parameter, index) => {
      const value = index < args.length ? args[index] : named.get(parameter)
      if (index >= args.length) named.delete(parameter)
      if (value === undefined) missing.push(index)
      else frame.set(parameter, value)
    })
    if (uses.caller && !parameters.includes('caller')) {
      frame.set('caller', named.get('caller') ?? new Undefined('No caller defined'))
      named.delete('caller')
    }
    const what = `macro ${name === undefined ? 'of a call block' : `'${name}'`}`
    const [unknown] = named.keys()
    if (uses.kwargs) frame.set('kwargs', Dict.fromEntries(named))
    else if (unknown !== undefined) throw typeError(`${what} takes no keyword argument '${unknown}'`)
    if (uses.varargs) frame.set('varargs', new Tuple(args.slice(parameters.length)))
    else if (args.length > parameters.length) {
      throw typeError(`${what} takes not more than ${parameters.length} argument(s)`)
    }
    for (const index of missing) this.#setDefault(frame, index, parameters, defaults)
  }

  /** A default may refer to the parameters before it. */
  #setDefault(frame: Frame, index: number, parameters: readonly string[], defaults: readonly Evaluate[]): void {
    const parameter = parameters[index] ?? ''
    frame.set(parameter, new Undefined(`parameter '${parameter}' was not provided`))
    const evaluate = defaults[index - (parameters.length - defaults.length)]
    if (evaluate) frame.set(parameter, evaluate(frame))
  }
}
