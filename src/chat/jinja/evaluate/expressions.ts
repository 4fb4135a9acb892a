import { PythonError, TemplateSyntaxError, typeError, valueError } from '../errors'
import type { Arguments, Call, Comparison, Expression, Filter as FilterNode, Slice } from '../language/syntax'
import type { Filter } from '../library/filter'
import { FILTERS, TESTS } from '../library/filters'
import { contains, equal, ordered, truth } from '../values/compare'
import { Dict } from '../values/dict'
import { escaped } from '../values/repr'
import { sliced } from '../values/slices'
import { Float, Markup, type Named, Tuple, Undefined, type Value } from '../values/values'
import { call, callMethod, getAttribute, getItem } from './attributes'
import { eachLoadedName } from './loaded-names'
import { binary, negative, positive } from './operators'
import type { Frame } from './runtime'

/** A compiled expression. */
export type Evaluate = (frame: Frame) => Value

/** Compiles expressions to closures. `cost` counts their nodes: the minimum cost of executing a body once. */
export class ExpressionCompiler {
  /** Nodes compiled so far. */
  cost = 0
  /** Inside a condition Jinja2 accepts unknown filters and tests until they are used. */
  protected conditional = false

  expression(node: Expression): Evaluate {
    this.cost++
    switch (node.kind) {
      case 'constant': {
        const { value } = node
        return () => value
      }
      case 'name': {
        const { name } = node
        return (frame) => frame.get(name)
      }
      case 'tuple':
      case 'list':
        return this.#sequence(node.kind, node.items)
      case 'concat':
        return this.#concat(node.items)
      case 'dict':
        return this.#dict(node.pairs)
      case 'attribute': {
        const object = this.expression(node.object)
        const { name } = node
        return (frame) => getAttribute(frame.rt, object(frame), name)
      }
      case 'item':
        return this.#item(node.object, node.key)
      case 'slice':
        throw new TemplateSyntaxError('a slice stands alone in its brackets', node.line)
      case 'call':
        return this.call(node)
      case 'filter':
        return this.filter(node, undefined)
      case 'test':
        return this.#test(node.name, node.value, node.args, node.line)
      case 'conditional':
        return this.#conditional(node.test, node.then, node.otherwise)
      case 'and':
      case 'or':
        return this.#logical(node.kind === 'and', node.left, node.right)
      case 'not': {
        const operand = this.expression(node.operand)
        return (frame) => !truth(frame.rt, operand(frame))
      }
      case 'negative':
      case 'positive': {
        const operand = this.expression(node.operand)
        const signed = node.kind === 'negative' ? negative : positive
        return (frame) => signed(operand(frame))
      }
      case 'binary': {
        const left = this.expression(node.left)
        const right = this.expression(node.right)
        const { operator } = node
        if (operator !== '+') return (frame) => binary(frame.rt, operator, left(frame), right(frame))
        return (frame) => {
          const a = left(frame)
          const b = right(frame)
          if (typeof a !== 'string' || typeof b !== 'string') return binary(frame.rt, '+', a, b)
          frame.rt.budget.text(a.length + b.length)
          return a + b
        }
      }
      case 'compare':
        return this.#compare(node.first, node.rest)
    }
  }

  #optional(node: Expression | undefined): Evaluate {
    return node === undefined ? () => null : this.expression(node)
  }

  #sequence(kind: 'tuple' | 'list', nodes: readonly Expression[]): Evaluate {
    const items = nodes.map((node) => this.expression(node))
    return (frame) => {
      frame.rt.budget.items(items.length)
      const values = items.map((item) => item(frame))
      return kind === 'list' ? values : new Tuple(values)
    }
  }

  #concat(nodes: readonly Expression[]): Evaluate {
    const items = nodes.map((node) => this.expression(node))
    return (frame) => {
      const { rt } = frame
      let text = ''
      if (!rt.autoescape) {
        for (const item of items) text += rt.str(item(frame))
        rt.budget.text(text.length)
        return text
      }
      const values = items.map((item) => item(frame))
      const isMarkup = values.some((value) => value instanceof Markup)
      for (const value of values) text += isMarkup ? escaped(rt, value) : rt.str(value)
      rt.budget.text(text.length)
      return isMarkup ? new Markup(text) : text
    }
  }

  #dict(nodes: readonly (readonly [Expression, Expression])[]): Evaluate {
    const pairs = nodes.map(([key, value]) => [this.expression(key), this.expression(value)] as const)
    return (frame) => {
      frame.rt.budget.items(pairs.length * 4)
      const dict = new Dict()
      for (const [key, value] of pairs) dict.set(frame.rt, key(frame), value(frame))
      return dict
    }
  }

  #item(objectNode: Expression, keyNode: Expression): Evaluate {
    const object = this.expression(objectNode)
    if (keyNode.kind === 'slice') return this.#slice(object, keyNode)
    const key = this.expression(keyNode)
    return (frame) => getItem(frame.rt, object(frame), key(frame))
  }

  #slice(object: Evaluate, node: Slice): Evaluate {
    const [start, stop, step] = [this.#optional(node.start), this.#optional(node.stop), this.#optional(node.step)]
    return (frame) => sliced(frame.rt, object(frame), start(frame), stop(frame), step(frame))
  }

  /**
   * Compiles an output expression. Jinja2 evaluates a slice of a constant at compile time, by another function than at
   * run time: a missing one is undefined then, instead of a TypeError.
   */
  protected printed(node: Expression): Evaluate {
    const evaluate = this.expression(node)
    if (!isConstantSlice(node)) return evaluate
    return (frame) => {
      try {
        return evaluate(frame)
      } catch (error) {
        if (!PythonError.is(error, 'TypeError')) throw error
        return new Undefined('no such element')
      }
    }
  }

  /** @param extra adds a named argument to those in the source */
  call(node: Call, extra?: { readonly name: string; readonly value: (frame: Frame) => Value }): Evaluate {
    const args = this.arguments(node.args, extra)
    const { callee } = node
    if (callee.kind === 'attribute') {
      this.cost++
      const object = this.expression(callee.object)
      const { name } = callee
      return (frame) => {
        const self = object(frame)
        return args.run(frame, (positional, named) => callMethod(frame.rt, self, name, positional, named))
      }
    }
    const target = this.expression(callee)
    return (frame) => {
      const value = target(frame)
      return args.run(frame, (positional, named) => call(frame.rt, value, positional, named))
    }
  }

  /** Evaluates the arguments of a call and passes them on. */
  protected arguments(
    node: Arguments,
    extra?: { readonly name: string; readonly value: (frame: Frame) => Value },
  ): CompiledArguments {
    const positional = node.positional.map((argument) => this.expression(argument))
    const named = node.named.map(({ name, value }) => [name, this.expression(value)] as const)
    const rest = node.rest && this.expression(node.rest)
    const namedRest = node.namedRest && this.expression(node.namedRest)
    if (extra) named.push([extra.name, extra.value])
    return new CompiledArguments(positional, named, rest, namedRest)
  }

  /** @param captured the output captured by a filter or set block, for the innermost filter of its chain */
  filter(node: FilterNode, captured: Evaluate | undefined): Evaluate {
    const implementation = this.#filterNamed(node.name, node.line)
    const inner = node.value
    const value =
      inner === undefined
        ? captured
        : inner.kind === 'filter' && captured
          ? this.filter(inner, captured)
          : this.expression(inner)
    if (value === undefined) throw new TemplateSyntaxError('a filter without a value', node.line)
    const args = this.arguments(node.args)
    return (frame) => {
      frame.rt.budget.step()
      const input = value(frame)
      return args.run(frame, (positional, named) => implementation(frame.rt, input, positional, named))
    }
  }

  #filterNamed(name: string, line: number): Filter {
    const filter = FILTERS.get(name)
    if (filter) return filter
    if (!this.conditional) throw new TemplateSyntaxError(`no filter named '${name}'`, line)
    return () => {
      throw new PythonError('TemplateRuntimeError', `No filter named '${name}' found.`)
    }
  }

  #test(name: string, valueNode: Expression, argumentNodes: Arguments, line: number): Evaluate {
    const test = TESTS.get(name)
    if (!test && !this.conditional) throw new TemplateSyntaxError(`no test named '${name}'`, line)
    const value = this.expression(valueNode)
    if (name === 'defined' || name === 'undefined') {
      const wanted = name === 'undefined'
      return (frame) => value(frame) instanceof Undefined === wanted
    }
    const args = this.arguments(argumentNodes)
    return (frame) => {
      const input = value(frame)
      if (!test) throw new PythonError('TemplateRuntimeError', `No test named '${name}' found.`)
      return args.run(frame, (positional, named) => test(frame.rt, input, positional, named))
    }
  }

  /** Compiles a condition. */
  protected within<T>(conditional: boolean, compile: () => T): T {
    const outer = this.conditional
    this.conditional = conditional
    const result = compile()
    this.conditional = outer
    return result
  }

  #conditional(testNode: Expression, thenNode: Expression, otherwiseNode: Expression | undefined): Evaluate {
    return this.within(true, () => {
      const test = this.expression(testNode)
      const then = this.expression(thenNode)
      const message = 'the inline if-expression evaluated to false and no else section was defined.'
      const otherwise = otherwiseNode ? this.expression(otherwiseNode) : () => new Undefined(message)
      return (frame) => (truth(frame.rt, test(frame)) ? then(frame) : otherwise(frame))
    })
  }

  #logical(isAnd: boolean, leftNode: Expression, rightNode: Expression): Evaluate {
    const left = this.expression(leftNode)
    const right = this.expression(rightNode)
    return (frame) => {
      const value = left(frame)
      return truth(frame.rt, value) === isAnd ? right(frame) : value
    }
  }

  #compare(
    firstNode: Expression,
    restNodes: readonly { readonly operator: Comparison; readonly operand: Expression }[],
  ): Evaluate {
    const first = this.expression(firstNode)
    const rest = restNodes.map(({ operator, operand }) => ({ operator, operand: this.expression(operand) }))
    return (frame) => {
      let left = first(frame)
      for (const { operator, operand } of rest) {
        const right = operand(frame)
        if (!compares(frame, operator, left, right)) return false
        left = right
      }
      return true
    }
  }
}

function isConstantSlice(node: Expression): boolean {
  if (node.kind !== 'item' || node.key.kind !== 'slice' || !isLiteral(node.object)) return false
  let isConstant = true
  eachLoadedName(node.key, () => {
    isConstant = false
  })
  return isConstant
}

function isLiteral(node: Expression): boolean {
  if (node.kind !== 'dict') return node.kind === 'constant'
  return node.pairs.every(([key, value]) => key.kind === 'constant' && isLiteral(value))
}

function compares({ rt }: Frame, operator: Comparison, a: Value, b: Value): boolean {
  switch (operator) {
    case '==':
      return equal(rt, a, b)
    case '!=':
      return !equal(rt, a, b)
    case 'in':
      return contains(rt, b, a)
    case 'not in':
      return !contains(rt, b, a)
    default:
      return ordered(rt, operator, a, b)
  }
}

/** Evaluates the arguments of a call. */
export class CompiledArguments {
  readonly #positional: readonly Evaluate[]
  readonly #named: readonly (readonly [string, Evaluate])[]
  readonly #rest: Evaluate | undefined
  readonly #namedRest: Evaluate | undefined

  constructor(
    positional: readonly Evaluate[],
    named: readonly (readonly [string, Evaluate])[],
    rest: Evaluate | undefined,
    namedRest: Evaluate | undefined,
  ) {
    this.#positional = positional
    this.#named = named
    this.#rest = rest
    this.#namedRest = namedRest
  }

  run<T>(frame: Frame, use: (positional: readonly Value[], named: Named) => T): T {
    const positional = this.#positional.map((argument) => argument(frame))
    if (this.#rest) {
      for (const value of frame.rt.iterate(this.#rest(frame))) positional.push(value)
      frame.rt.budget.items(positional.length)
    }
    if (this.#named.length === 0 && !this.#namedRest) return use(positional, undefined)
    const named = new Map<string, Value>()
    for (const [name, value] of this.#named) named.set(name, value(frame))
    if (this.#namedRest) this.#spread(frame, this.#namedRest(frame), named)
    return use(positional, named.size === 0 ? undefined : named)
  }

  #spread(frame: Frame, mapping: Value, named: Map<string, Value>): void {
    if (!(mapping instanceof Dict)) throw typeError('argument after ** must be a mapping')
    frame.rt.budget.items(mapping.size * 4)
    for (const [key, value] of mapping.entries()) {
      if (typeof key !== 'string') throw typeError('keywords must be strings')
      if (named.has(key)) throw typeError(`got multiple values for keyword argument '${key}'`)
      named.set(key, value)
    }
  }
}

/** Unpacks a value assigned to a tuple of `count` targets. @throws PythonError */
export function unpacked(frame: Frame, value: Value, count: number): readonly Value[] {
  const { rt } = frame
  if (value instanceof Float || typeof value === 'number') throw typeError('cannot unpack non-iterable object')
  const items: Value[] = []
  for (const item of rt.iterate(value)) {
    if (items.length === count) throw valueError(`too many values to unpack (expected ${count})`)
    items.push(item)
  }
  if (items.length < count) throw valueError(`not enough values to unpack (expected ${count}, got ${items.length})`)
  return items
}
