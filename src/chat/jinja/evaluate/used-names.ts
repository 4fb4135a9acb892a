import type { Body, Expression, Statement, Target } from '../language/syntax'
import { eachLoadedName } from './loaded-names'

const SPECIAL = ['caller', 'kwargs', 'varargs']

/** The special macro variables that a body uses without setting them itself. */
export function usedNames(body: Body): ReadonlySet<string> {
  const finder = new Finder()
  for (const statement of body) finder.statement(statement)
  return finder.used
}

class Finder {
  readonly used = new Set<string>()
  readonly #assigned = new Set<string>()

  readonly #load = (name: string) => {
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
        for (const part of node.parts) if (typeof part !== 'string') eachLoadedName(part, this.#load)
        break
      case 'for':
        this.#target(node.target)
        this.#expressions(node.iterable, node.condition)
        this.#body(node.body)
        this.#body(node.otherwise)
        break
      case 'if':
        for (const { test, body } of node.branches) {
          eachLoadedName(test, this.#load)
          this.#body(body)
        }
        this.#body(node.otherwise)
        break
      case 'set':
        this.#target(node.target)
        eachLoadedName(node.value, this.#load)
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
        if (node.kind === 'call block') eachLoadedName(node.call, this.#load)
        this.#expressions(...node.signature.defaults)
        for (const parameter of node.signature.parameters) this.#assigned.add(parameter)
        this.#body(node.body)
        break
      case 'filter block':
        eachLoadedName(node.filter, this.#load)
        this.#body(node.body)
        break
      case 'autoescape':
        eachLoadedName(node.value, this.#load)
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
    for (const node of nodes) if (node) eachLoadedName(node, this.#load)
  }
}
