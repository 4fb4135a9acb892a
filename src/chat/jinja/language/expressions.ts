import { parseInteger } from '../values/numbers'
import { Float } from '../values/values'
import type { TokenType } from './lexer'
import type { Arguments, BinaryOperator, Comparison, Expression, Filter, Name, Slice, Target } from './syntax'
import { described, type TokenStream } from './token-stream'

const COMPARISONS: readonly string[] = ['==', '!=', '<', '<=', '>', '>=']
const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
  ['none', null],
  ['None', null],
])
/** Tokens that can start the argument of a test without parentheses. */
const TEST_ARGUMENT: readonly TokenType[] = ['name', 'string', 'integer', 'float', '(', '[', '{']

const NO_ARGUMENTS: Arguments = { positional: [], named: [], rest: undefined, namedRest: undefined }

interface TupleOptions {
  /** Whether `a if b else c` is parsed as a conditional. */
  readonly conditional?: boolean
}

/**
 * Parses expressions with the precedence of Jinja2, where `**` is left-associative and filters bind tighter than signs.
 */
export class ExpressionParser {
  protected readonly stream: TokenStream

  constructor(stream: TokenStream) {
    this.stream = stream
  }

  expression(conditional = true): Expression {
    return this.stream.nested(() => (conditional ? this.#conditional() : this.#or()))
  }

  #conditional(): Expression {
    const { stream } = this
    let { line } = stream
    let then = this.#or()
    for (let links = 0; stream.skip('name', 'if'); stream.checkChain(++links)) {
      const test = this.#or()
      const otherwise = stream.skip('name', 'else') ? stream.nested(() => this.#conditional()) : undefined
      then = { kind: 'conditional', test, then, otherwise, line }
      line = stream.line
    }
    return then
  }

  #or(): Expression {
    return this.#logical('or', () => this.#logical('and', () => this.#not()))
  }

  #logical(kind: 'and' | 'or', operand: () => Expression): Expression {
    const { stream } = this
    let left = operand()
    for (let links = 0; stream.is('name', kind); stream.checkChain(++links)) {
      const { line } = stream.next()
      left = { kind, left, right: operand(), line }
    }
    return left
  }

  #not(): Expression {
    const { stream } = this
    if (!stream.is('name', 'not')) return this.#compare()
    const { line } = stream.next()
    return { kind: 'not', operand: stream.nested(() => this.#not()), line }
  }

  #compare(): Expression {
    const { stream } = this
    const { line } = stream
    const first = this.#sum()
    const rest: { operator: Comparison; operand: Expression }[] = []
    for (;;) {
      const operator = this.#comparison()
      if (operator === undefined) break
      rest.push({ operator, operand: this.#sum() })
    }
    return rest.length === 0 ? first : { kind: 'compare', first, rest, line }
  }

  #comparison(): Comparison | undefined {
    const { stream } = this
    if (COMPARISONS.includes(stream.current.type)) return stream.next().type as Comparison
    if (stream.skip('name', 'in')) return 'in'
    const next = stream.isName('not') ? stream.look() : undefined
    if (next?.type !== 'name' || next.value !== 'in') return undefined
    stream.next()
    stream.next()
    return 'not in'
  }

  #sum(): Expression {
    return this.#binary(['+', '-'], () => this.#concat())
  }

  #concat(): Expression {
    const { stream } = this
    const { line } = stream
    const items = [this.#product()]
    while (stream.skip('~')) items.push(this.#product())
    return items.length === 1 ? (items[0] as Expression) : { kind: 'concat', items, line }
  }

  #product(): Expression {
    return this.#binary(['*', '/', '//', '%'], () => this.#power())
  }

  #power(): Expression {
    return this.#binary(['**'], () => this.#unary())
  }

  #binary(operators: readonly BinaryOperator[], operand: () => Expression): Expression {
    const { stream } = this
    let left = operand()
    for (let links = 0; (operators as readonly string[]).includes(stream.current.type); stream.checkChain(++links)) {
      const { type, line } = stream.next()
      left = { kind: 'binary', operator: type as BinaryOperator, left, right: operand(), line }
    }
    return left
  }

  #unary(withFilters = true): Expression {
    const { stream } = this
    let node: Expression
    if (stream.is('-') || stream.is('+')) {
      const { type, line } = stream.next()
      const operand = stream.nested(() => this.#unary(false))
      node = { kind: type === '-' ? 'negative' : 'positive', operand, line }
    } else {
      node = this.primary()
    }
    node = this.#postfix(node)
    return withFilters ? this.#filtersAndTests(node) : node
  }

  /** A name, a literal, or a bracketed expression. */
  primary(): Expression {
    const { stream } = this
    const { type, value, line } = stream.current
    switch (type) {
      case 'name': {
        stream.next()
        const constant = CONSTANTS.get(value)
        return constant === undefined
          ? { kind: 'name', name: value, line }
          : { kind: 'constant', value: constant, line }
      }
      case 'string': {
        let text = ''
        while (stream.is('string')) text += stream.next().value
        return { kind: 'constant', value: text, line }
      }
      case 'integer':
        stream.next()
        return { kind: 'constant', value: this.#integer(value, line), line }
      case 'float':
        stream.next()
        return { kind: 'constant', value: new Float(Number(value)), line }
      case '(': {
        stream.next()
        const inner = stream.is(')') ? undefined : this.tuple()
        stream.expect(')')
        return inner ?? { kind: 'tuple', items: [], line }
      }
      case '[':
        stream.next()
        return { kind: 'list', items: this.#listed(']', () => this.expression()), line }
      case '{':
        stream.next()
        return { kind: 'dict', pairs: this.#listed('}', () => this.#pair()), line }
      default:
        throw stream.fail(`unexpected ${described(stream.current)}`)
    }
  }

  #integer(text: string, line: number): number | bigint {
    const value = parseInteger(text)
    if (value === undefined) throw this.stream.fail('the integer has too many digits', line)
    return value
  }

  #pair(): readonly [Expression, Expression] {
    const key = this.expression()
    this.stream.expect(':')
    return [key, this.expression()]
  }

  /** Comma-separated items up to `close`, with an optional trailing comma. */
  #listed<T>(close: TokenType, item: () => T): T[] {
    const { stream } = this
    const items: T[] = []
    while (!stream.is(close)) {
      if (items.length > 0) stream.expect(',')
      if (stream.is(close)) break
      items.push(item())
    }
    stream.expect(close)
    return items
  }

  /** One expression, or a tuple if there are commas. */
  tuple({ conditional = true }: TupleOptions = {}): Expression {
    return this.#tupleOf(() => this.expression(conditional))
  }

  #tupleOf(item: () => Expression): Expression {
    const { stream } = this
    const { line } = stream
    const items: Expression[] = []
    let isTuple = false
    for (;;) {
      if (stream.is('variable_end') || stream.is('block_end') || stream.is(')')) break
      items.push(item())
      if (!stream.skip(',')) break
      isTuple = true
    }
    if (isTuple) return { kind: 'tuple', items, line }
    const [only] = items
    if (only === undefined) throw stream.fail(`expected an expression, got ${described(stream.current)}`)
    return only
  }

  /** Assignment targets: names, tuples of them and, if allowed, namespace attributes. */
  target({ namespaces = false }: { namespaces?: boolean } = {}): Target {
    const attributes = new Map<Expression, Target>()
    const item = () => {
      const { stream } = this
      const { value: name, line } = stream.current
      const isAttribute = namespaces && stream.is('name') && !CONSTANTS.has(name) && stream.look().type === '.'
      if (!isAttribute) return this.primary()
      stream.next()
      stream.next()
      const placeholder: Expression = { kind: 'name', name, line }
      attributes.set(placeholder, { kind: 'namespace', name, attribute: stream.expect('name').value, line })
      return placeholder
    }
    const toTarget = (node: Expression): Target => {
      const attribute = attributes.get(node)
      if (attribute) return attribute
      if (node.kind === 'name') return node
      if (node.kind === 'tuple') return { kind: 'targets', items: node.items.map(toTarget), line: node.line }
      throw this.stream.fail(`cannot assign to a ${node.kind}`, node.line)
    }
    return toTarget(this.#tupleOf(item))
  }

  nameTarget(): Name {
    const { value: name, line } = this.stream.expect('name')
    if (CONSTANTS.has(name)) throw this.stream.fail(`cannot assign to ${name}`, line)
    return { kind: 'name', name, line }
  }

  #postfix(start: Expression): Expression {
    const { stream } = this
    let node = start
    for (let links = 0; ; stream.checkChain(++links)) {
      if (stream.is('.')) node = this.#attribute(node)
      else if (stream.is('[')) node = this.#subscript(node)
      else if (stream.is('(')) node = this.#call(node)
      else return node
    }
  }

  #filtersAndTests(start: Expression): Expression {
    const { stream } = this
    let node = start
    for (let links = 0; ; stream.checkChain(++links)) {
      if (stream.skip('|')) node = this.filter(node)
      else if (stream.is('name', 'is')) node = this.#test(node)
      else if (stream.is('(')) node = this.#call(node)
      else return node
    }
  }

  #attribute(object: Expression): Expression {
    const { line } = this.stream.next()
    const { type, value } = this.stream.next()
    if (type === 'name') return { kind: 'attribute', object, name: value, line }
    if (type !== 'integer') throw this.stream.fail('expected name or number', line)
    return { kind: 'item', object, key: { kind: 'constant', value: this.#integer(value, line), line }, line }
  }

  #subscript(object: Expression): Expression {
    const { line } = this.stream.next()
    const keys = this.#listed(']', () => this.#subscripted())
    const [only] = keys
    const key: Expression = keys.length === 1 && only ? only : { kind: 'tuple', items: keys, line }
    return { kind: 'item', object, key, line }
  }

  #subscripted(): Expression | Slice {
    const { stream } = this
    const { line } = stream
    const start = stream.is(':') ? undefined : this.expression()
    if (!stream.skip(':')) return start as Expression
    const part = () => (stream.is(':') || stream.is(']') || stream.is(',') ? undefined : this.expression())
    const stop = part()
    const step = stream.skip(':') ? part() : undefined
    return { kind: 'slice', start, stop, step, line }
  }

  #call(callee: Expression): Expression {
    const { line } = this.stream
    return { kind: 'call', callee, args: this.arguments(), line }
  }

  arguments(): Arguments {
    const { stream } = this
    const { line } = stream.expect('(')
    const positional: Expression[] = []
    const named: { name: string; value: Expression }[] = []
    let rest: Expression | undefined
    let namedRest: Expression | undefined
    const ensure = (condition: boolean) => {
      if (!condition) throw stream.fail('invalid order of arguments in a call', line)
    }
    for (let first = true; !stream.is(')'); first = false) {
      if (!first) {
        stream.expect(',')
        if (stream.is(')')) break
      }
      if (stream.skip('*')) {
        ensure(rest === undefined && namedRest === undefined)
        rest = this.expression()
      } else if (stream.skip('**')) {
        ensure(namedRest === undefined)
        namedRest = this.expression()
      } else if (stream.is('name') && stream.look().type === '=') {
        ensure(namedRest === undefined)
        const name = stream.next().value
        if (named.some((other) => other.name === name)) throw stream.fail(`argument ${name} is given twice`, line)
        stream.checkChain(named.length)
        stream.next()
        named.push({ name, value: this.expression() })
      } else {
        ensure(rest === undefined && namedRest === undefined && named.length === 0)
        positional.push(this.expression())
      }
    }
    stream.expect(')')
    return { positional, named, rest, namedRest }
  }

  /** Parses a filter after its `|` and applies it to `value`. */
  filter(value: Expression | undefined): Filter {
    const { stream } = this
    const { line } = stream
    const name = this.#dottedName()
    const args = stream.is('(') ? this.arguments() : NO_ARGUMENTS
    return { kind: 'filter', name, value, args, line }
  }

  #dottedName(): string {
    let name = this.stream.expect('name').value
    while (this.stream.skip('.')) name += `.${this.stream.expect('name').value}`
    return name
  }

  #test(value: Expression): Expression {
    const { stream } = this
    const { line } = stream.next()
    const negated = stream.skip('name', 'not')
    const name = this.#dottedName()
    let args = NO_ARGUMENTS
    if (stream.is('(')) {
      args = this.arguments()
    } else if (TEST_ARGUMENT.includes(stream.current.type) && !stream.isName('else', 'or', 'and')) {
      if (stream.isName('is')) throw stream.fail('tests with "is" cannot be chained')
      args = { ...NO_ARGUMENTS, positional: [stream.nested(() => this.#postfix(this.primary()))] }
    }
    const test: Expression = { kind: 'test', name, value, args, line }
    return negated ? { kind: 'not', operand: test, line } : test
  }
}
