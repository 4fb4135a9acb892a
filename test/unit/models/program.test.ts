import { describe, expect, test } from 'vitest'
import { runSync } from '../../../src/event-loop'
import { fuse, operands, planBuffers as planningBuffers, valueBytes } from '../../../src/models/program'
import type { OperatorSpec, PlaceSpec, ValueSpec } from '../../../src/native/addon'
import { Random } from '../../support/random.cjs'

const value = (width: number, rows: ValueSpec['rows'] = 'tokens'): ValueSpec => ({ width, rows, class: 'activation' })
const linear = (x: number, out: number, weight = 0): OperatorSpec => ({ op: 'linear', x, targets: [{ weight, out }] })
const norm = (x: number, out: number, width = 32): OperatorSpec => ({
  op: 'rmsNorm',
  x,
  weight: 0,
  width,
  eps: 1e-6,
  out,
})

describe('fuse', () => {
  const values = Array.from({ length: 10 }, () => value(32))

  test('linears on one input that follow each other become one', () => {
    const operators = [linear(0, 1, 5), linear(0, 2, 6), linear(1, 3), linear(0, 4)]
    expect(fuse(operators, values)).toEqual([
      {
        op: 'linear',
        x: 0,
        targets: [
          { weight: 5, out: 1 },
          { weight: 6, out: 2 },
        ],
      },
      linear(1, 3),
      linear(0, 4),
    ])
    expect(operators[0]).toEqual(linear(0, 1, 5)) // what was given is left alone
  })

  test('an add and the norm of its sum become one, with a tap between them or not', () => {
    const joined = { op: 'addRmsNorm', x: 0, y: 1, weight: 0, eps: 1e-6, out: 2 }
    const tap: OperatorSpec = { op: 'tap', x: 0, index: 3 }
    expect(fuse([{ op: 'add', x: 0, y: 1 }, norm(0, 2)], values)).toEqual([joined])
    expect(fuse([{ op: 'add', x: 0, y: 1 }, tap, norm(0, 2)], values)).toEqual([joined, tap])
  })

  test.each<[string, OperatorSpec[]]>([
    ['the norm of something else', [{ op: 'add', x: 0, y: 1 }, norm(1, 2)]],
    ['a tap of something else', [{ op: 'add', x: 0, y: 1 }, { op: 'tap', x: 1, index: 0 }, norm(0, 2)]],
    ['a norm a head', [{ op: 'add', x: 0, y: 1 }, norm(0, 2, 8)]],
    ['a norm in place', [{ op: 'add', x: 0, y: 1 }, norm(0, 0)]],
    ['something between', [{ op: 'add', x: 0, y: 1 }, linear(3, 4), norm(0, 2)]],
  ])('%s is left as it is', (_, operators) => {
    expect(fuse(operators, values)).toEqual(operators)
  })
})

describe('planBuffers', () => {
  const planBuffers = (...args: Parameters<typeof planningBuffers>) => runSync(planningBuffers(...args))

  // A generator of its own, so that a failure can be repeated.
  function random(seed: number) {
    const numbers = new Random(seed)
    return (below: number) => numbers.below(below)
  }

  test('values that are needed at the same time never share memory', () => {
    for (let seed = 0; seed < 200; seed++) {
      const next = random(seed)
      const values: ValueSpec[] = [value(16 + next(100))]
      const operators: OperatorSpec[] = []
      for (let i = 0; i < 30; i++) {
        const x = next(values.length)
        const out: ValueSpec = { ...value(1 + next(200)), class: next(2) === 0 ? 'activation' : 'residual' }
        operators.push(linear(x, values.push(out) - 1))
      }
      const output = values.length - 1
      const bytes = { activation: 2, residual: 4, logits: 4 }
      const { places, tokenBytes } = planBuffers({ values, operators, input: 0, output }, bytes)
      const last = values.map((_, id) =>
        id === output ? operators.length : operators.findLastIndex((o) => o.op === 'linear' && o.x === id),
      )
      const first = values.map((_, id) => id - 1) // value id is written by operator id - 1
      for (const [a, pa] of places.entries()) {
        const { width, class: kind } = values[a] as ValueSpec
        expect([pa.offset % 64, pa.stride % 64]).toEqual([0, 0])
        expect(pa.stride).toBeGreaterThanOrEqual(width * bytes[kind])
        expect(pa.stride).toBeLessThan(width * bytes[kind] + 64)
        expect(pa.offset + pa.stride).toBeLessThanOrEqual(tokenBytes)
        for (const [b, pb] of places.slice(0, a).entries()) {
          const until = (id: number) => Math.max(last[id] as number, first[id] as number)
          const together = Math.max(first[a] as number, first[b] as number) <= Math.min(until(a), until(b))
          const apart = pa.offset + pa.stride <= pb.offset || pb.offset + pb.stride <= pa.offset
          if (together && !apart) expect.fail(`seed ${seed}: values ${a} and ${b} share memory`)
        }
      }
    }
  })

  test('a chain of any length needs two places', () => {
    const values = Array.from({ length: 50 }, () => value(64))
    const operators = Array.from({ length: 49 }, (_, i) => linear(i, i + 1))
    const chain = { values, operators, input: 0, output: 49 }
    expect(planBuffers(chain, valueBytes('cpu')).tokenBytes).toBe(2 * 64 * 4)
    expect(planBuffers(chain, valueBytes('disk')).tokenBytes).toBe(2 * 64 * 4)
    expect(planBuffers(chain, valueBytes('cuda:0')).tokenBytes).toBe(2 * 64 * 2)
    expect(planBuffers(chain, valueBytes('emulated:3')).tokenBytes).toBe(2 * 64 * 2)
  })

  test('a view lies where its value lies, and keeps it alive', () => {
    const values = [value(96), { ...value(32), view: { of: 0, start: 32 } }, value(96), value(32)]
    const operators = [linear(0, 2), linear(1, 3)]
    const { places } = planBuffers({ values, operators, input: 0, output: 3 }, valueBytes('cpu'))
    const [whole, view, other] = places as [PlaceSpec, PlaceSpec, PlaceSpec]
    expect(view).toEqual(whole)
    expect(other.offset).toBeGreaterThanOrEqual(whole.offset + whole.stride)
  })

  test('token rows and logit rows have arenas of their own', () => {
    const values = [value(64), value(64, 'logits'), value(100, 'logits')]
    const operators: OperatorSpec[] = [{ op: 'gather', x: 0, out: 1 }, linear(1, 2)]
    const plan = planBuffers({ values, operators, input: 0, output: 2 }, valueBytes('cpu'))
    expect(plan).toMatchObject({ tokenBytes: 64 * 4, logitBytes: 176 * 4 })
  })
})

test('operands of every operator', () => {
  expect(operands(norm(1, 1, 8))).toEqual({ reads: [1], writes: [] })
  expect(operands({ op: 'attention', q: 1, k: 2, v: 3, out: 4, layer: 0, heads: 1, scale: 1, window: 0 })).toEqual({
    reads: [1, 2, 3],
    writes: [4],
  })
})
