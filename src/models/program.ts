/** From traced operators to a program: neighbors are fused. The native side checks it, and places its values. */
import type { OperatorSpec, ValueSpec } from '../native/addon'

/** Changes the last operators to include the next one, and returns true; or leaves them alone. */
type Rule = (done: OperatorSpec[], next: OperatorSpec, values: readonly ValueSpec[]) => boolean

/** Consecutive linears on one input: the activation is prepared once, and the threads share all rows. */
const joinLinears: Rule = (done, next) => {
  const last = done.at(-1)
  if (next.op !== 'linear' || last?.op !== 'linear' || last.x !== next.x) return false
  done[done.length - 1] = { ...last, targets: [...last.targets, ...next.targets] }
  return true
}

/**
 * An add and the norm of its sum take one pass. A tap between the two only reads the sum, which the norm leaves alone:
 * it may come after both.
 */
const joinAddAndNorm: Rule = (done, next, values) => {
  const last = done.at(-1)
  const sumAt = done.length - (last?.op === 'tap' ? 2 : 1)
  const sum = done[sumAt]
  if (next.op !== 'rmsNorm' || sum?.op !== 'add' || sum.x !== next.x) return false
  if (last?.op === 'tap' && last.x !== next.x) return false
  if (next.out === next.x || next.width !== values[next.x]?.width) return false
  const { weight, eps, out } = next
  done[sumAt] = { op: 'addRmsNorm', x: sum.x, y: sum.y, weight, eps, out }
  return true
}

const RULES = [joinLinears, joinAddAndNorm]

/** Joins neighbors that a rule makes one operator of. */
export function fuse(operators: readonly OperatorSpec[], values: readonly ValueSpec[]): OperatorSpec[] {
  const done: OperatorSpec[] = []
  for (const operator of operators) {
    if (!RULES.some((rule) => rule(done, operator, values))) done.push(operator)
  }
  return done
}
