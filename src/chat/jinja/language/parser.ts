import type { Budget } from '../budget'
import { ExpressionParser } from './expressions'
import type { Body, Expression, Filter, Signature, Statement, Target } from './syntax'
import { described, TokenStream } from './token-stream'

/**
 * Parses a template.
 * @throws TemplateSyntaxError
 * @throws BudgetExhausted
 */
export function parseTemplate(source: string, budget: Budget): Body {
  return new TemplateParser(new TokenStream(source, budget)).template()
}

/** Context of the body being parsed. */
interface Surroundings {
  /** Whether `break` and `continue` have an enclosing loop. */
  readonly inLoop: boolean
  /** Whether the variable `loop` is reserved, also inside macros. */
  readonly hasLoopVariable: boolean
}

class TemplateParser extends ExpressionParser {
  readonly #blocks = new Set<string>()
  #surroundings: Surroundings = { inLoop: false, hasLoopVariable: false }

  template(): Body {
    const body = this.#statements([])
    return body
  }

  /**
   * Statements up to one of the tags in `ends`, whose name is then the current token; all of them if `ends` is empty.
   */
  #statements(ends: readonly string[]): Body {
    const { stream } = this
    const body: Statement[] = []
    let parts: (string | Expression)[] = []
    let { line } = stream
    const flush = () => {
      if (parts.length > 0) body.push({ kind: 'output', parts, line })
      parts = []
    }
    for (;;) {
      if (parts.length === 0) line = stream.line
      if (stream.is('data')) {
        parts.push(stream.next().value)
      } else if (stream.skip('variable_begin')) {
        parts.push(this.tuple())
        stream.expect('variable_end')
      } else if (stream.skip('block_begin')) {
        flush()
        if (stream.isName(...ends)) return body
        body.push(stream.nested(() => this.#statement(ends)))
        stream.expect('block_end')
      } else {
        if (ends.length > 0) throw stream.fail(`unexpected end of template; looking for ${ends.join(' or ')}`)
        flush()
        return body
      }
    }
  }

  /** A body with a different context. */
  #within(surroundings: Partial<Surroundings>, parse: () => Body): Body {
    const outer = this.#surroundings
    this.#surroundings = { ...outer, ...surroundings }
    const body = parse()
    this.#surroundings = outer
    return body
  }

  /** The body of a tag up to one of `ends`, whose name is not consumed. */
  #bodyTo(...ends: string[]): Body {
    this.stream.skip(':')
    this.stream.expect('block_end')
    return this.#statements(ends)
  }

  #bodyThrough(end: string): Body {
    const body = this.#bodyTo(end)
    this.stream.next()
    return body
  }

  #statement(ends: readonly string[]): Statement {
    const { stream } = this
    const { value: tag, line } = stream.expect('name')
    switch (tag) {
      case 'for':
        return this.#for(line)
      case 'if':
        return this.#if(line)
      case 'set':
        return this.#set(line)
      case 'with':
        return this.#with(line)
      case 'macro': {
        const { name } = this.nameTarget()
        const signature = this.#signature()
        return { kind: 'macro', name, signature, body: this.#functionBody('endmacro'), line }
      }
      case 'call':
        return this.#call(line)
      case 'filter': {
        const filter = this.#filters(this.filter(undefined))
        return { kind: 'filter block', filter, body: this.#bodyThrough('endfilter'), line }
      }
      case 'print':
        return this.#print(line)
      case 'block':
        return this.#block(line)
      case 'autoescape':
        return { kind: 'autoescape', value: this.expression(), body: this.#bodyThrough('endautoescape'), line }
      case 'generation':
        return { kind: 'generation', body: this.#functionBody('endgeneration'), line }
      case 'break':
      case 'continue':
        if (!this.#surroundings.inLoop) throw stream.fail(`${tag} stands outside of a loop`, line)
        return { kind: tag, line }
      case 'include':
      case 'import':
      case 'from':
      case 'extends':
        return this.#load(tag, line)
      default: {
        const wanted = ends.length > 0 ? `; looking for ${ends.join(' or ')}` : ''
        throw stream.fail(`unknown tag ${JSON.stringify(tag)}${wanted}`, line)
      }
    }
  }

  #functionBody(end: string): Body {
    return this.#within({ inLoop: false }, () => this.#bodyThrough(end))
  }

  #for(line: number): Statement {
    const { stream } = this
    const target = this.target()
    this.#checkLoop(target, true)
    stream.expect('name', 'in')
    const iterable = this.tuple({ conditional: false })
    const condition = stream.skip('name', 'if') ? this.expression() : undefined
    const recursive = stream.skip('name', 'recursive')
    const body = this.#within({ inLoop: true, hasLoopVariable: true }, () => this.#bodyTo('endfor', 'else'))
    const hasElse = stream.next().value === 'else'
    const otherwise = hasElse ? this.#within({ hasLoopVariable: true }, () => this.#bodyThrough('endfor')) : []
    return { kind: 'for', target, iterable, condition, recursive, body, otherwise, line }
  }

  #checkLoop(target: Target, isTaken: boolean): void {
    if (!isTaken || !assignsTo(target, 'loop')) return
    throw this.stream.fail("cannot assign to the special variable 'loop'", target.line)
  }

  #if(line: number): Statement {
    const { stream } = this
    const branches: { test: Expression; body: Body }[] = []
    for (;;) {
      const test = this.tuple({ conditional: false })
      branches.push({ test, body: this.#bodyTo('elif', 'else', 'endif') })
      const { value: tag } = stream.next()
      if (tag === 'elif') continue
      return { kind: 'if', branches, otherwise: tag === 'else' ? this.#bodyThrough('endif') : [], line }
    }
  }

  #set(line: number): Statement {
    const { stream } = this
    const target = this.target({ namespaces: true })
    this.#checkLoop(target, this.#surroundings.hasLoopVariable)
    if (stream.skip('=')) return { kind: 'set', target, value: this.tuple(), line }
    const filter = stream.skip('|') ? this.#filters(this.filter(undefined)) : undefined
    return { kind: 'set block', target, filter, body: this.#bodyThrough('endset'), line }
  }

  /** Additional filters of a filter or set block. */
  #filters(first: Filter): Filter {
    let filter = first
    for (let links = 0; this.stream.skip('|'); this.stream.checkChain(++links)) filter = this.filter(filter)
    return filter
  }

  #with(line: number): Statement {
    const { stream } = this
    const targets: Target[] = []
    const values: Expression[] = []
    while (!stream.is('block_end')) {
      if (targets.length > 0) stream.expect(',')
      targets.push(this.target())
      stream.expect('=')
      values.push(this.expression())
    }
    return { kind: 'with', targets, values, body: this.#bodyThrough('endwith'), line }
  }

  #call(line: number): Statement {
    const { stream } = this
    const signature = stream.is('(') ? this.#signature() : { parameters: [], defaults: [] }
    const call = this.expression()
    if (call.kind !== 'call') throw stream.fail('expected a call', line)
    return { kind: 'call block', call, signature, body: this.#functionBody('endcall'), line }
  }

  #signature(): Signature {
    const { stream } = this
    const parameters: string[] = []
    const defaults: Expression[] = []
    stream.expect('(')
    while (!stream.is(')')) {
      if (parameters.length > 0) stream.expect(',')
      const { name } = this.nameTarget()
      if (parameters.includes(name)) throw stream.fail(`parameter ${name} is named twice`)
      stream.checkChain(parameters.length)
      parameters.push(name)
      if (stream.skip('=')) defaults.push(this.expression())
      else if (defaults.length > 0) throw stream.fail('a parameter without default follows one with default')
    }
    stream.expect(')')
    return { parameters, defaults }
  }

  #print(line: number): Statement {
    const { stream } = this
    const parts: Expression[] = []
    while (!stream.is('block_end')) {
      if (parts.length > 0) stream.expect(',')
      parts.push(this.expression())
    }
    return { kind: 'output', parts, line }
  }

  #block(line: number): Statement {
    const { stream } = this
    const { value: name } = stream.expect('name')
    if (this.#blocks.has(name)) throw stream.fail(`block ${JSON.stringify(name)} is defined twice`, line)
    this.#blocks.add(name)
    const scoped = stream.skip('name', 'scoped')
    const required = stream.skip('name', 'required')
    const body = this.#functionBody('endblock')
    if (required && !body.every(isBlank)) throw stream.fail('required blocks can only contain comments or white space')
    stream.skip('name', name)
    return { kind: 'block', name, scoped, required, body, line }
  }

  /** A tag that loads another template: its syntax is checked, but rendering it is an error. */
  #load(tag: string, line: number): Statement {
    const { stream } = this
    this.expression()
    if (tag === 'include' && stream.isName('ignore') && stream.look().value === 'missing') {
      stream.next()
      stream.next()
    }
    if (tag === 'import') {
      stream.expect('name', 'as')
      this.nameTarget()
    }
    if (tag === 'from') this.#importedNames()
    this.#importContext()
    return { kind: 'load', tag, line }
  }

  #importContext(): boolean {
    const { stream } = this
    if (!stream.isName('with', 'without') || stream.look().value !== 'context') return false
    stream.next()
    stream.next()
    return true
  }

  #importedNames(): void {
    const { stream } = this
    stream.expect('name', 'import')
    for (let first = true; ; first = false) {
      if (!first && !stream.skip(',')) return
      if (!stream.is('name')) {
        if (first) throw stream.fail(`expected a name, got ${described(stream.current)}`)
        return
      }
      if (this.#importContext()) return
      this.nameTarget()
      if (stream.skip('name', 'as')) this.nameTarget()
    }
  }
}

function assignsTo(target: Target, name: string): boolean {
  if (target.kind === 'targets') return target.items.some((item) => assignsTo(item, name))
  return target.kind === 'name' && target.name === name
}

function isBlank(statement: Statement): boolean {
  return statement.kind === 'output' && statement.parts.every((part) => typeof part === 'string' && part.trim() === '')
}
