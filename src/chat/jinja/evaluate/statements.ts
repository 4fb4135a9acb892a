import { PythonError, TemplateSyntaxError, typeError } from '../errors'
import type { Body, Signature, Statement, Target } from '../language/syntax'
import { Namespace } from '../library/globals'
import { append } from '../library/methods'
import { truth } from '../values/compare'
import { lengthIfKnown } from '../values/slices'
import { BuiltIn, Markup, type Named, PythonObject, textOf, typeName, type Value } from '../values/values'
import { type Evaluate, ExpressionCompiler, unpacked } from './expressions'
import { LoopContext } from './loop-context'
import { Macro, type MacroCode } from './macro'
import type { Frame, Interpreter } from './runtime'
import type { UnboundNames } from './unbound-names'
import { usedNames } from './used-names'

/** How a statement ends: break and continue propagate to the enclosing loop. */
type Flow = 'next' | 'break' | 'continue'
/** A compiled statement or body. */
export type Execute = (frame: Frame) => Flow
type Assign = (frame: Frame, value: Value) => void

/** Compiles statements to closures. */
export class StatementCompiler extends ExpressionCompiler {
  readonly #blocks = new Map<string, Execute>()
  readonly #unset: UnboundNames

  constructor(unset: UnboundNames) {
    super()
    this.#unset = unset
  }

  /** Blocks of the template, accessible through `self`. */
  get blocks(): ReadonlyMap<string, Execute> {
    return this.#blocks
  }

  body(statements: Body): Execute {
    const steps = statements.map((statement) => this.#statement(statement))
    const [only] = steps
    if (steps.length === 1 && only) return only
    return (frame) => {
      for (const step of steps) {
        const flow = step(frame)
        if (flow !== 'next') return flow
      }
      return 'next'
    }
  }

  /** A body with its own scope, the function that creates the scope, and the cost of the body. */
  #scoped(statements: Body): { run: Execute; scope: (outer: Frame) => Frame; cost: number } {
    const before = this.cost
    const run = this.within(false, () => this.body(statements))
    const unset = this.#unset.get(statements)
    return { run, scope: (outer) => outer.inner(unset), cost: this.cost - before + 2 }
  }

  #statement(node: Statement): Execute {
    this.cost++
    switch (node.kind) {
      case 'output':
        return this.#output(node.parts, node.line)
      case 'for':
        return this.#for(node)
      case 'if':
        return this.#if(node)
      case 'set':
        return this.#set(node)
      case 'set block':
        return this.#setBlock(node)
      case 'with':
        return this.#with(node)
      case 'macro': {
        const code = this.#macro(node.name, node.signature, node.body, node.line)
        const { name } = node
        return (frame) => {
          frame.set(name, new Macro(code, frame))
          return 'next'
        }
      }
      case 'call block':
        return this.#callBlock(node)
      case 'filter block':
        return this.#filterBlock(node)
      case 'block':
        return this.#block(node)
      case 'autoescape':
        return this.#autoescape(node)
      case 'generation': {
        // The body acts as a call block: it has `varargs` and `kwargs`, both empty.
        const code = this.#macro(undefined, { parameters: [], defaults: [] }, node.body, node.line)
        return (frame) => {
          frame.rt.print(new Macro(code, frame).call(frame.rt, [], undefined))
          return 'next'
        }
      }
      case 'load':
        return () => {
          throw typeError('no loader for this environment specified')
        }
      case 'break':
      case 'continue': {
        const { kind } = node
        return () => kind
      }
    }
  }

  #output(nodes: Extract<Statement, { kind: 'output' }>['parts'], line: number): Execute {
    const parts = nodes.map((part) => {
      this.cost++
      return typeof part === 'string' ? part : this.printed(part)
    })
    return (frame) => {
      const { rt } = frame
      rt.line = line
      for (const part of parts) {
        if (typeof part === 'string') rt.emit(part)
        else rt.print(part(frame))
      }
      return 'next'
    }
  }

  #for(node: Extract<Statement, { kind: 'for' }>): Execute {
    const iterable = this.within(false, () => this.expression(node.iterable))
    const assign = this.#target(node.target)
    const { condition: passes } = node
    const condition = passes && this.within(false, () => this.expression(passes))
    const { run: body, scope, cost } = this.#scoped(node.body)
    const otherwise = this.#scoped(node.otherwise)
    const { recursive, line } = node

    function* filtered(frame: Frame, items: Iterator<Value>, passing: Evaluate): Generator<Value> {
      for (let next = items.next(); !next.done; next = items.next()) {
        frame.rt.budget.step(4)
        const inner = scope(frame)
        assign(inner, next.value)
        if (truth(frame.rt, passing(inner))) yield next.value
      }
    }

    const run = (frame: Frame, value: Value, depth0: number): Flow => {
      const { rt } = frame
      const items = rt.iterator(value)
      const recurse = (inner: Value, depth: number) => {
        rt.budget.enter()
        const text = rt.capture(() => run(frame, inner, depth))
        rt.budget.leave()
        return rt.captured(text)
      }
      const loop = condition
        ? new LoopContext(filtered(frame, items, condition), undefined, depth0, recursive ? recurse : undefined)
        : new LoopContext(items, lengthIfKnown(rt, value), depth0, recursive ? recurse : undefined)
      let completed = false
      for (let item = loop.advance(); item !== undefined; item = loop.advance()) {
        rt.budget.step(cost)
        const inner = scope(frame)
        assign(inner, item)
        inner.set('loop', loop)
        const flow = body(inner)
        if (flow === 'break') break
        // Jinja2 runs the else branch unless an iteration completed.
        if (flow === 'next') completed = true
      }
      return completed ? 'next' : otherwise.run(otherwise.scope(frame))
    }
    return (frame) => {
      frame.rt.line = line
      return run(frame, iterable(frame), 0)
    }
  }

  #if(node: Extract<Statement, { kind: 'if' }>): Execute {
    return this.within(true, () => {
      const branches = node.branches.map(({ test, body }) => ({ test: this.expression(test), body: this.body(body) }))
      const otherwise = this.body(node.otherwise)
      const { line } = node
      return (frame) => {
        frame.rt.line = line
        for (const { test, body } of branches) if (truth(frame.rt, test(frame))) return body(frame)
        return otherwise(frame)
      }
    })
  }

  #set({ target, value: node, line }: Extract<Statement, { kind: 'set' }>): Execute {
    const assign = this.#target(target)
    const value = this.#appending(target, node) ?? this.expression(node)
    return (frame) => {
      frame.rt.line = line
      assign(frame, value(frame))
      return 'next'
    }
  }

  /**
   * `{% set _ = list.append(item) %}`, the statement by which templates for engines without Jinja2's immutable sandbox
   * fill lists. There it is a SecurityError; here it appends, if the list is a list. All other mutation is refused.
   */
  #appending(target: Target, node: Extract<Statement, { kind: 'set' }>['value']): Evaluate | undefined {
    const isDiscarded = target.kind === 'name' && /^_+$/.test(target.name)
    if (!isDiscarded || node.kind !== 'call' || node.callee.kind !== 'attribute') return undefined
    if (node.callee.name !== 'append') return undefined
    const list = this.expression(node.callee.object)
    const args = this.arguments(node.args)
    const otherwise = this.expression(node)
    return (frame) => {
      const value = list(frame)
      if (!Array.isArray(value)) return otherwise(frame)
      return args.run(frame, (positional, named) => append(frame.rt, value, positional, named))
    }
  }

  #target(node: Target): Assign {
    this.cost++
    switch (node.kind) {
      case 'name': {
        const { name } = node
        return (frame, value) => frame.set(name, value)
      }
      case 'targets': {
        const targets = node.items.map((item) => this.#target(item))
        return (frame, value) => {
          const items = unpacked(frame, value, targets.length)
          targets.forEach((assign, index) => {
            assign(frame, items[index] as Value)
          })
        }
      }
      case 'namespace': {
        const { name, attribute } = node
        return (frame, value) => {
          const namespace = frame.get(name)
          if (!(namespace instanceof Namespace)) {
            throw new PythonError('TemplateRuntimeError', 'cannot assign attribute on non-namespace object')
          }
          namespace.set(frame.rt, attribute, value)
        }
      }
    }
  }

  #setBlock({ target, filter, body, line }: Extract<Statement, { kind: 'set block' }>): Execute {
    const assign = this.#target(target)
    const capture = this.#capturing(body, filter)
    return (frame) => {
      frame.rt.line = line
      const captured = capture(frame)
      if (typeof captured === 'string') return captured as Flow
      const { value } = captured
      assign(frame, frame.rt.autoescape && !(value instanceof Markup) ? new Markup(frame.rt.str(value)) : value)
      return 'next'
    }
  }

  #filterBlock({ filter, body, line }: Extract<Statement, { kind: 'filter block' }>): Execute {
    const capture = this.#capturing(body, filter)
    return (frame) => {
      frame.rt.line = line
      const captured = capture(frame)
      if (typeof captured === 'string') return captured as Flow
      const { value } = captured
      // The output of a filter block is joined with the rest, not printed.
      if (textOf(value) === undefined)
        throw typeError(`sequence item 0: expected str instance, ${typeName(value)} found`)
      frame.rt.print(value)
      return 'next'
    }
  }

  /** Captures and filters the output of a body; if the body was left early, its output is lost. */
  #capturing(
    body: Body,
    filter: Extract<Statement, { kind: 'set block' }>['filter'],
  ): (frame: Frame) => { readonly value: Value } | Flow {
    const { run, scope } = this.#scoped(body)
    let text: Value = ''
    const filtered = filter && this.within(false, () => this.filter(filter, () => text))
    return (frame) => {
      const { rt } = frame
      const inner = scope(frame)
      let flow: Flow = 'next'
      const printed = rt.captured(
        rt.capture(() => {
          flow = run(inner)
        }),
      )
      if (flow !== 'next') return flow
      if (!filtered) return { value: printed }
      text = printed
      return { value: filtered(inner) }
    }
  }

  #with({ targets, values, body }: Extract<Statement, { kind: 'with' }>): Execute {
    const assigns = targets.map((target) => this.#target(target))
    const evaluates = this.within(false, () => values.map((value) => this.expression(value)))
    const { run, scope } = this.#scoped(body)
    return (frame) => {
      const inner = scope(frame)
      evaluates.forEach((evaluate, index) => {
        assigns[index]?.(inner, evaluate(frame))
      })
      return run(inner)
    }
  }

  #macro(name: string | undefined, { parameters, defaults }: Signature, body: Body, line: number): MacroCode {
    const { run, scope, cost } = this.#scoped(body)
    const used = usedNames(body)
    const caller = parameters.indexOf('caller')
    if (used.has('caller') && caller >= 0 && parameters.length - caller > defaults.length) {
      throw new TemplateSyntaxError("the special argument 'caller' must be left out, or have a default", line)
    }
    const uses = {
      caller: used.has('caller'),
      kwargs: used.has('kwargs') && !parameters.includes('kwargs'),
      varargs: used.has('varargs') && !parameters.includes('varargs'),
    }
    const compiled = this.within(false, () => defaults.map((value) => this.expression(value)))
    return { name, parameters, defaults: compiled, uses, scope, body: run, cost }
  }

  #callBlock({ call, signature, body, line }: Extract<Statement, { kind: 'call block' }>): Execute {
    const code = this.#macro(undefined, signature, body, line)
    const evaluate = this.call(call, { name: 'caller', value: (frame) => new Macro(code, frame) })
    return (frame) => {
      frame.rt.line = line
      frame.rt.print(evaluate(frame))
      return 'next'
    }
  }

  /** Without inheritance a block renders in place and sees only the variables of the outermost scope. */
  #block({ name, scoped, required, body, line }: Extract<Statement, { kind: 'block' }>): Execute {
    const { run: inScope, scope } = this.#scoped(body)
    const run: Execute = (outer) => inScope(scope(outer))
    this.#blocks.set(name, run)
    return (frame) => {
      frame.rt.line = line
      if (required) throw new PythonError('TemplateRuntimeError', `Required block '${name}' not found`)
      run(scoped ? frame : frame.rt.exported)
      return 'next'
    }
  }

  #autoescape({ value, body }: Extract<Statement, { kind: 'autoescape' }>): Execute {
    const evaluate = this.expression(value)
    const run = this.body(body)
    const unset = this.#unset.get(body)
    return (frame) => {
      const { rt } = frame
      const outer = rt.autoescape
      rt.autoescape = truth(rt, evaluate(frame))
      const flow = run(frame.inner(unset))
      rt.autoescape = outer
      return flow
    }
  }
}

/** The variable `self`: the blocks of the template as functions. */
export class TemplateReference extends PythonObject {
  readonly typeName = 'TemplateReference'
  readonly #blocks: ReadonlyMap<string, Execute>

  constructor(blocks: ReadonlyMap<string, Execute>) {
    super()
    this.#blocks = blocks
  }

  repr(): string {
    return '<TemplateReference None>'
  }

  override item(interpreter: Interpreter, key: Value): Value | undefined {
    const run = typeof key === 'string' ? this.#blocks.get(key) : undefined
    if (!run) return undefined
    return new BuiltIn(String(key), (_rt, args, named) => this.#render(interpreter, run, args, named))
  }

  #render(rt: Interpreter, run: Execute, args: readonly Value[], named: Named): Value {
    if (args.length > 0 || named !== undefined) throw typeError('a block takes no arguments')
    rt.budget.enter()
    const text = rt.capture(() => run(rt.exported))
    rt.budget.leave()
    return rt.captured(text)
  }
}
