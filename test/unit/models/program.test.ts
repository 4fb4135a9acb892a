import { describe, expect, test } from 'vitest'
import { fuse } from '../../../src/models/program'
import type { OperatorSpec, ValueSpec } from '../../../src/native/addon'

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
