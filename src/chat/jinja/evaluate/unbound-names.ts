import type { Budget } from '../budget'
import type { Body, Expression, Filter, Signature, Statement, Target } from '../language/syntax'
import { eachLoadedName } from './loaded-names'

/** Variables of each scope, keyed by its body, that are undefined until the scope sets them. */
export type UnboundNames = ReadonlyMap<Body, ReadonlySet<string>>

/**
 * Jinja2 binds variables to scopes at compile time. A variable that a scope sets (outside of `if`) after a nested scope
 * reads it belongs to that scope, unless an outer scope has it: until then nested scopes find it undefined, even if the
 * caller passes a variable of that name. In `{% set x %}{{ x }}{% endset %}` that is `x` in the body; in `{% for m in
 * messages %}{{ x }}{% endfor %}{% set x = 1 %}` it is `x` in the loop.
 */
export function unboundNames(template: Body, budget: Budget): UnboundNames {
  const unset = new Map<Body, Set<string>>()
  const bodies: Body[] = [template]
  for (let body = bodies.pop(); body; body = bodies.pop()) new Finder(budget, bodies).find(body, unset)
  return unset
}

/** Variables of a scope known at the point of compilation. */
interface Scope {
  readonly body: Body
  readonly outer: Scope | undefined
  readonly names: Set<string>
  /** Number of variable reads before it. */
  readonly begin: number
}

/** Walks a body and its nested scopes in source order. */
class Finder {
  readonly #budget: Budget
  /** Blocks, which see nothing of the enclosing scopes. */
  readonly #blocks: Body[]
  readonly #candidates: { readonly scope: Scope; readonly name: string }[] = []
  /** Sequence number of the last read of each variable. */
  readonly #latest = new Map<string, number>()
  #reads = 0

  constructor(budget: Budget, blocks: Body[]) {
    this.#budget = budget
    this.#blocks = blocks
  }

  find(body: Body, unset: Map<Body, Set<string>>): void {
    this.#scope(undefined, [], body)
    for (const { scope, name } of this.#candidates) {
      if (this.#isKnownAround(scope, name)) continue
      const names = unset.get(scope.body)
      if (names) names.add(name)
      else unset.set(scope.body, new Set([name]))
    }
  }

  #isKnownAround({ outer }: Scope, name: string): boolean {
    for (let scope = outer; scope; scope = scope.outer) {
      this.#budget.step()
      if (scope.names.has(name)) return true
    }
    return false
  }

  #scope(outer: Scope | undefined, names: readonly string[], body: Body, ...read: (Expression | undefined)[]): void {
    const scope: Scope = { body, outer, names: new Set(names), begin: this.#reads }
    this.#read(scope, ...read)
    this.#statements(scope, body, false)
  }

  #function(outer: Scope, { parameters, defaults }: Signature, body: Body): void {
    this.#scope(outer, parameters, body, ...defaults)
  }

  #read(scope: Scope, ...nodes: (Expression | Filter | undefined)[]): void {
    for (const node of nodes) {
      eachLoadedName(node, (name) => {
        this.#latest.set(name, ++this.#reads)
        scope.names.add(name)
      })
    }
  }

  /** @param inBranch whether the assignment is conditional */
  #set(scope: Scope, name: string, inBranch: boolean): void {
    if (scope.names.has(name)) return
    scope.names.add(name)
    const isRead = (this.#latest.get(name) ?? 0) > scope.begin
    if (isRead && !inBranch) this.#candidates.push({ scope, name })
  }

  #target(scope: Scope, target: Target, inBranch: boolean): void {
    if (target.kind === 'targets') for (const item of target.items) this.#target(scope, item, inBranch)
    else if (target.kind === 'name') this.#set(scope, target.name, inBranch)
    else this.#read(scope, { kind: 'name', name: target.name, line: target.line })
  }

  #statements(scope: Scope, body: Body, inBranch: boolean): void {
    for (const statement of body) this.#statement(scope, statement, inBranch)
  }

  #statement(scope: Scope, node: Statement, inBranch: boolean): void {
    switch (node.kind) {
      case 'output':
        for (const part of node.parts) if (typeof part !== 'string') this.#read(scope, part)
        break
      case 'for': {
        this.#read(scope, node.iterable)
        this.#scope(scope, [...namesOf([node.target]), 'loop'], node.body, node.condition)
        this.#scope(scope, [], node.otherwise)
        break
      }
      case 'if':
        for (const { test, body } of node.branches) {
          this.#read(scope, test)
          this.#statements(scope, body, true)
        }
        this.#statements(scope, node.otherwise, true)
        break
      case 'set':
        this.#read(scope, node.value)
        this.#target(scope, node.target, inBranch)
        break
      case 'set block':
        this.#scope(scope, [], node.body, node.filter)
        this.#target(scope, node.target, inBranch)
        break
      case 'with':
        this.#read(scope, ...node.values)
        this.#scope(scope, namesOf(node.targets), node.body)
        break
      case 'macro':
        this.#set(scope, node.name, inBranch)
        this.#function(scope, node.signature, node.body)
        break
      case 'call block':
        this.#read(scope, node.call)
        this.#function(scope, node.signature, node.body)
        break
      case 'filter block':
        this.#read(scope, node.filter)
        this.#scope(scope, [], node.body)
        break
      case 'autoescape':
        this.#scope(scope, [], node.body, node.value)
        break
      case 'generation':
        this.#scope(scope, [], node.body)
        break
      case 'block':
        this.#blocks.push(node.body)
        break
      case 'load':
      case 'break':
      case 'continue':
        break
    }
  }
}

function namesOf(targets: readonly Target[]): string[] {
  return targets.flatMap((target) => {
    if (target.kind === 'targets') return namesOf(target.items)
    return target.kind === 'name' ? [target.name] : []
  })
}
