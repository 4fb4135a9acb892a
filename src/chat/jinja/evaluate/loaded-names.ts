import type { Arguments, Expression, Filter } from '../language/syntax'

/** Calls `visit` with the name of every variable that an expression reads. */
export function eachLoadedName(node: Expression | Filter | undefined, visit: (name: string) => void): void {
  const all = (...nodes: readonly (Expression | undefined)[]) => {
    for (const inner of nodes) eachLoadedName(inner, visit)
  }
  const inArguments = ({ positional, named, rest, namedRest }: Arguments) => {
    all(...positional, ...named.map(({ value }) => value), rest, namedRest)
  }
  if (node === undefined) return
  switch (node.kind) {
    case 'name':
      visit(node.name)
      break
    case 'constant':
      break
    case 'tuple':
    case 'list':
    case 'concat':
      all(...node.items)
      break
    case 'dict':
      for (const pair of node.pairs) all(...pair)
      break
    case 'attribute':
      all(node.object)
      break
    case 'item':
      all(node.object, node.key)
      break
    case 'slice':
      all(node.start, node.stop, node.step)
      break
    case 'call':
      all(node.callee)
      inArguments(node.args)
      break
    case 'filter':
    case 'test':
      all(node.value)
      inArguments(node.args)
      break
    case 'conditional':
      all(node.test, node.then, node.otherwise)
      break
    case 'and':
    case 'or':
    case 'binary':
      all(node.left, node.right)
      break
    case 'not':
    case 'negative':
    case 'positive':
      all(node.operand)
      break
    case 'compare':
      all(node.first, ...node.rest.map(({ operand }) => operand))
      break
  }
}
