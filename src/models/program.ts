/** From traced operators to a program: neighbors are fused. The native side checks it, and places its values. */
import type { OperatorSpec, ValueSpec } from '../native/addon'

/**
 * Linears on one input that follow each other become one operator (the activation is prepared once, the threads share
 * all rows), and an add becomes one pass with the norm of its sum. A tap between the two only reads the sum, which the
 * norm leaves alone: it may come after both.
 */
export function fuse(operators: readonly OperatorSpec[], values: readonly ValueSpec[]): OperatorSpec[] {
  const fused: OperatorSpec[] = []
  for (const operator of operators) {
    const last = fused.at(-1)
    if (operator.op === 'linear' && last?.op === 'linear' && last.x === operator.x) {
      fused[fused.length - 1] = { ...last, targets: [...last.targets, ...operator.targets] }
      continue
    }
    const sumAt = fused.length - (last?.op === 'tap' ? 2 : 1)
    const sum = fused[sumAt]
    if (
      operator.op === 'rmsNorm' &&
      operator.out !== operator.x &&
      operator.width === values[operator.x]?.width &&
      sum?.op === 'add' &&
      sum.x === operator.x &&
      (last === sum || (last?.op === 'tap' && last.x === operator.x))
    ) {
      const { weight, eps, out } = operator
      fused[sumAt] = { op: 'addRmsNorm', x: sum.x, y: sum.y, weight, eps, out }
      continue
    }
    fused.push(operator)
  }
  return fused
}
