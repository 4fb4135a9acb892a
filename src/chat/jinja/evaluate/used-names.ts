import type { Arguments, Body, Expression, Statement, Target } from '../language/syntax'

const SPECIAL = ['caller', 'kwargs', 'varargs']

/** Which of the special variables of macros a body uses without having set them itself. */
export function usedNames(body: Body): ReadonlySet<string> {
  const finder = new Finder()
  for (const statement of body) finder.statement(statement)
  return finder.used
}

class Finder {
  readonly used = new Set<string>()
  readonly #assigned = new Set<string>()

  #name(name: string): void {
    if (SPECIAL.includes(name) && !this.#assigned.has(name)) this.used.add(name)
  }

  #body(body: Body): void {
    for (const statement of body) this.statement(statement)
  }

  #target(target: Target): void {
    if (target.kind === 'targets') for (const item of target.items) this.#target(item)
    else if (target.kind === 'name') this.#assigned.add(target.name)
  }

  statement(node: Statement): void {
    switch (node.kind) {
      case 'output':
        for (const part of node.parts) if (typeof part !== 'string') this.#expression(part)
        break
      case 'for':
        this.#target(node.target)
        this.#expressions(node.iterable, node.condition)
        this.#body(node.body)
        this.#body(node.otherwise)
        break
      case 'if':
        for (const { test, body } of node.branches) {
          this.#expression(test)
          this.#body(body)
        }
        this.#body(node.otherwise)
        break
      case 'set':
        this.#target(node.target)
        this.#expression(node.value)
        break
      case 'set block':
        this.#target(node.target)
        this.#expressions(node.filter)
        this.#body(node.body)
        break
      case 'with':
        node.targets.forEach((target) => {
          this.#target(target)
        })
        this.#expressions(...node.values)
        this.#body(node.body)
        break
      case 'macro':
      case 'call block':
        if (node.kind === 'call block') this.#expression(node.call)
        this.#expressions(...node.signature.defaults)
        for (const parameter of node.signature.parameters) this.#assigned.add(parameter)
        this.#body(node.body)
        break
      case 'filter block':
        this.#expression(node.filter)
        this.#body(node.body)
        break
      case 'autoescape':
        this.#expression(node.value)
        this.#body(node.body)
        break
      case 'generation':
        this.#body(node.body)
        break
      case 'block':
      case 'load':
      case 'break':
      case 'continue':
        break
    }
  }

  #expressions(...nodes: (Expression | undefined)[]): void {
    for (const node of nodes) if (node) this.#expression(node)
  }

  #arguments({ positional, named, rest, namedRest }: Arguments): void {
    this.#expressions(...positional, ...named.map(({ value }) => value), rest, namedRest)
  }

  #expression(node: Expression): void {
    switch (node.kind) {
      case 'name':
        this.#name(node.name)
        break
      case 'constant':
        break
      case 'tuple':
      case 'list':
      case 'concat':
        this.#expressions(...node.items)
        break
      case 'dict':
        for (const [key, value] of node.pairs) this.#expressions(key, value)
        break
      case 'attribute':
        this.#expression(node.object)
        break
      case 'item':
        this.#expressions(node.object, node.key)
        break
      case 'slice':
        this.#expressions(node.start, node.stop, node.step)
        break
      case 'call':
        this.#expression(node.callee)
        this.#arguments(node.args)
        break
      case 'filter':
        this.#expressions(node.value)
        this.#arguments(node.args)
        break
      case 'test':
        this.#expression(node.value)
        this.#arguments(node.args)
        break
      case 'conditional':
        this.#expressions(node.test, node.then, node.otherwise)
        break
      case 'and':
      case 'or':
      case 'binary':
        this.#expressions(node.left, node.right)
        break
      case 'not':
      case 'negative':
      case 'positive':
        this.#expression(node.operand)
        break
      case 'compare':
        this.#expressions(node.first, ...node.rest.map(({ operand }) => operand))
        break
    }
  }
}
