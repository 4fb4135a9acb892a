import { BillfishError } from '../../common/errors'
import { type Automaton, NO_RULE, type Rule } from './automaton'

interface Draft {
  readonly states: number
  readonly byteEdges: Int32Array
  readonly calls: Int32Array
  readonly rules: readonly Rule[]
}

const BYTE_EDGE_NUMBERS = 4
const CALL_NUMBERS = 3

/**
 * Drops edges from which the end of their rule is never reached, and checks what is left.
 * @throws BillfishError INVALID_OPTION if no text matches the first rule, or a rule begins with itself
 */
export function finishAutomaton(draft: Draft): Automaton {
  const { states, byteEdges, calls, rules } = draft
  const { canEnd, canMatch } = findEnds(draft)
  if (!canMatch[0]) {
    throw new BillfishError('INVALID_OPTION', 'no text matches it: what it demands is contradictory, or has no end')
  }
  const kept = {
    states,
    byteEdges: rowsOf(byteEdges, BYTE_EDGE_NUMBERS, (at) => canEnd[byteEdges[at + 3] as number] === 1),
    calls: rowsOf(calls, CALL_NUMBERS, (at) => {
      const rule = calls[at + 1] as number
      return canEnd[calls[at + 2] as number] === 1 && (rule === NO_RULE || canMatch[rule] === 1)
    }),
  }
  refuseLeftRecursion({ ...kept, rules })
  return { ...kept, rules: Int32Array.from(rules.flatMap(({ start, end }) => [start, end])) }
}

/** States from which the end of their rule can be reached, and rules whose start is one of them. */
function findEnds({ states, byteEdges, calls, rules }: Draft): { canEnd: Uint8Array; canMatch: Uint8Array } {
  const edgesTo = rowsBy(byteEdges, BYTE_EDGE_NUMBERS, 3, states)
  const callsTo = rowsBy(calls, CALL_NUMBERS, 2, states)
  const ruleOfStart = new Map(rules.map(({ start, id }) => [start, id]))
  const canEnd = new Uint8Array(states)
  const canMatch = new Uint8Array(rules.length)
  /** Before calls of rules that are not known to match, though what follows them can end. */
  const waiting = rules.map((): number[] => [])
  const pending = rules.map(({ end }) => end)
  while (pending.length > 0) {
    const state = pending.pop() as number
    if (canEnd[state]) continue
    canEnd[state] = 1
    for (const at of edgesTo(state)) pending.push(byteEdges[at] as number)
    for (const at of callsTo(state)) {
      const [from, rule] = [calls[at] as number, calls[at + 1] as number]
      if (rule === NO_RULE || canMatch[rule]) pending.push(from)
      else waiting[rule]?.push(from)
    }
    const matched = ruleOfStart.get(state)
    if (matched === undefined) continue
    canMatch[matched] = 1
    for (const from of waiting[matched] as number[]) pending.push(from)
  }
  return { canEnd, canMatch }
}

/** A rule that may call itself before it has read anything would do so for ever. */
function refuseLeftRecursion({ states, calls, rules }: Omit<Draft, 'byteEdges'>): void {
  const called = firstCalls({ states, calls, rules })
  const progress = new Uint8Array(rules.length) // 1: on the path, 2: done
  for (const { id } of rules) {
    const path: { rule: number; next: number }[] = progress[id] === 0 ? [{ rule: id, next: 0 }] : []
    for (let top = path[0]; top; top = path[path.length - 1]) {
      progress[top.rule] = 1
      const callee = called[top.rule]?.[top.next++]
      if (callee === undefined) {
        progress[top.rule] = 2
        path.pop()
      } else if (progress[callee] === 1) {
        const message = `${rules[callee]?.name} begins with itself, so it would never end`
        throw new BillfishError('INVALID_OPTION', message)
      } else if (progress[callee] === 0) {
        path.push({ rule: callee, next: 0 })
      }
    }
  }
}

/** The rules that each rule may call before it has read anything. */
function firstCalls({ states, calls, rules }: Omit<Draft, 'byteEdges'>): number[][] {
  const callsFrom = rowsBy(calls, CALL_NUMBERS, 0, states)
  /** The rule that reaches a state without reading anything; -1: none. */
  const reachedBy = new Int32Array(states).fill(-1)
  const isEmpty = new Uint8Array(rules.length)
  const waiting = rules.map((): { readonly by: number; readonly to: number }[] => [])
  const called = rules.map((): number[] => [])
  const pending = rules.map(({ id, start }) => ({ by: id, to: start }))
  while (pending.length > 0) {
    const { by, to: state } = pending.pop() as { by: number; to: number }
    if (reachedBy[state] !== -1) continue
    reachedBy[state] = by
    for (const at of callsFrom(state)) {
      const [rule, to] = [calls[at + 1] as number, calls[at + 2] as number]
      if (rule !== NO_RULE) called[by]?.push(rule)
      if (rule === NO_RULE || isEmpty[rule]) pending.push({ by, to })
      else waiting[rule]?.push({ by, to })
    }
    if (state !== rules[by]?.end) continue
    isEmpty[by] = 1
    for (const waiter of waiting[by] as { by: number; to: number }[]) pending.push(waiter)
  }
  return called
}

/** Finds rows of `width` numbers by the state in one of their columns; gives where they begin. */
function rowsBy(numbers: Int32Array, width: number, column: number, states: number): (state: number) => Int32Array {
  const first = new Int32Array(states + 1)
  const add = (counts: Int32Array, at: number, more: number) => {
    const before = counts[at] as number
    counts[at] = before + more
    return before
  }
  for (let at = 0; at < numbers.length; at += width) add(first, (numbers[at + column] as number) + 1, 1)
  for (let state = 0; state < states; state++) add(first, state + 1, first[state] as number)
  const next = first.slice()
  const rows = new Int32Array(numbers.length / width)
  for (let at = 0; at < numbers.length; at += width) rows[add(next, numbers[at + column] as number, 1)] = at
  return (state) => rows.subarray(first[state], first[state + 1])
}

function rowsOf(numbers: Int32Array, width: number, isKept: (at: number) => boolean): Int32Array {
  const rows = new Int32Array(numbers.length)
  let length = 0
  for (let at = 0; at < numbers.length; at += width) {
    if (!isKept(at)) continue
    rows.set(numbers.subarray(at, at + width), length)
    length += width
  }
  return rows.slice(0, length)
}
