/**
 * From traced operators to a program: neighbors are fused, and every value gets its place in one arena a stage. Pure,
 * and made from shapes alone, so that the bytes of a stage's buffers are known before anything is loaded; the native
 * side checks both before it runs a program (binding/engine/program.cc).
 */
import { roundUp } from '../arithmetic'
import type { CooperativeTask } from '../event-loop'
import type { OperatorSpec, PlaceSpec, ProgramSpec, ValueId, ValueSpec } from '../native/addon'
import { deviceKind } from '../native/devices'

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

/** Values that an operator reads (in-place operands among them) and those that it writes for the first time. */
export function operands(operator: OperatorSpec): { reads: ValueId[]; writes: ValueId[] } {
  switch (operator.op) {
    case 'embedding':
      return { reads: [], writes: [operator.out] }
    case 'rmsNorm':
    case 'layerNorm':
      return { reads: [operator.x], writes: operator.out === operator.x ? [] : [operator.out] }
    case 'addRmsNorm':
      return { reads: [operator.x, operator.y], writes: [operator.out] }
    case 'linear':
      return { reads: [operator.x], writes: operator.targets.map(({ out }) => out) }
    case 'rope':
    case 'logNScale':
    case 'tap':
      return { reads: [operator.x], writes: [] }
    case 'attention':
      return { reads: [operator.q, operator.k, operator.v], writes: [operator.out] }
    case 'siluMul':
      return { reads: [operator.gate, operator.up], writes: [] }
    case 'add':
      return { reads: [operator.x, operator.y], writes: [] }
    case 'gather':
    case 'allReduce':
      return { reads: [operator.x], writes: [operator.out] }
    case 'allGather':
      return { reads: [operator.x], writes: operator.out === undefined ? [] : [operator.out] }
  }
}

/** Bytes of a value's elements, by its class. */
export type ValueBytes = Readonly<Record<ValueSpec['class'], number>>

/** GPUs have activations in 16 bits (Backend::value_type of the native side). */
export function valueBytes(device: string): ValueBytes {
  return { activation: deviceKind(device) === 'gpu' ? 2 : 4, residual: 4, logits: 4 }
}

/** A program whose values have no places yet: these depend on the device. */
export type UnplacedProgram = Omit<ProgramSpec, keyof BufferPlan>

export interface BufferPlan {
  /** Where each value lies. */
  readonly places: readonly PlaceSpec[]
  /** Bytes of the arena a token row, and of the arena a logit row. */
  readonly tokenBytes: number
  readonly logitBytes: number
}

/** Rows start at multiples of so many bytes. */
const ROW_ALIGNMENT = 64

/** Where a value lies that no operator writes. */
const NOWHERE: PlaceSpec = { offset: 0, stride: 0 }

/** Operators that are looked at between two yields. */
const SLICE_OPERATORS = 1000

/** Gives every value a place; a place is used again once its value is dead. */
export function* planBuffers(
  { values, operators, input, output }: Pick<ProgramSpec, 'values' | 'operators' | 'input' | 'output'>,
  bytes: ValueBytes,
): CooperativeTask<BufferPlan> {
  const base = (id: ValueId) => values[id]?.view?.of ?? id
  const lastUse: number[] = [] // of each value, the number of its last operator
  const uses = [] // what each operator writes, and all values that it has to do with
  for (const [i, operator] of operators.entries()) {
    const { reads, writes } = operands(operator)
    const used = [...reads, ...writes].map(base)
    for (const id of used) lastUse[id] = i
    uses.push({ writes, used })
    if (i % SLICE_OPERATORS === SLICE_OPERATORS - 1) yield
  }
  lastUse[base(output)] = operators.length

  const arenas = { tokens: new Arena(), logits: new Arena() }
  const places: PlaceSpec[] = values.map(() => NOWHERE)
  const place = (id: ValueId) => {
    const { width, rows, class: kind } = values[id] as ValueSpec
    const stride = roundUp(width * bytes[kind], ROW_ALIGNMENT)
    places[id] = { offset: arenas[rows].take(stride), stride }
  }
  if (input !== undefined) place(input)
  for (const [i, { writes, used }] of uses.entries()) {
    for (const id of writes) place(id)
    for (const [at, id] of used.entries()) {
      if (lastUse[id] !== i || used.indexOf(id) !== at) continue
      arenas[(values[id] as ValueSpec).rows].give(places[id] as PlaceSpec)
    }
    if (i % SLICE_OPERATORS === SLICE_OPERATORS - 1) yield
  }
  for (const [id, value] of values.entries()) {
    if (value.view) places[id] = places[value.view.of] as PlaceSpec
  }
  return { places, tokenBytes: arenas.tokens.size, logitBytes: arenas.logits.size }
}

/** First fit over the free ranges; neighbors that are free together join; it grows at its end. */
class Arena {
  size = 0
  /** In order, none of them empty. */
  readonly #free: { begin: number; end: number }[] = []

  take(width: number): number {
    const at = this.#free.findIndex(({ begin, end }) => end - begin >= width)
    const range = this.#free[at]
    if (range) {
      range.begin += width
      if (range.begin === range.end) this.#free.splice(at, 1)
      return range.begin - width
    }
    const last = this.#free.at(-1)
    const begin = last?.end === this.size ? last.begin : this.size
    if (begin !== this.size) this.#free.pop()
    this.size = begin + width
    return begin
  }

  give({ offset: begin, stride }: PlaceSpec): void {
    const free = this.#free
    const end = begin + stride
    const at = free.findIndex((range) => range.begin >= end)
    const index = at < 0 ? free.length : at
    const [before, behind] = [free[index - 1], free[index]]
    if (before?.end === begin && behind?.begin === end) {
      before.end = behind.end
      free.splice(index, 1)
    } else if (before?.end === begin) before.end = end
    else if (behind?.begin === end) behind.begin = begin
    else free.splice(index, 0, { begin, end })
  }
}
