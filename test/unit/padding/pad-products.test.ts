/** The addon's products refuse lengths that do not belong together, before they read or write a byte. */
import { expect, test } from 'vitest'
import { addon } from '../../../src/native/addon'

const floats = () => ({
  values: new Uint8Array(2 * 3 * 16),
  type: 'BF16' as const,
  x: new Float64Array(16).fill(1),
  leading: 0,
  y: new Float64Array(3),
})
const rows = () => ({
  codes: new Int32Array(3 * 2).fill(0x11111111),
  bits: 4 as const,
  scales: new Float32Array(3 * 2).fill(0.5),
  zeros: new Uint8Array(3 * 2),
  groupOf: Int32Array.from({ length: 16 }, (_, k) => k >> 3),
  x: new Float64Array(16).fill(1),
  leading: 3,
  y: new Float64Array(3),
})
const columns = () => ({
  ...rows(),
  codes: new Int32Array(2 * 8).fill(0x11111111),
  order: 'gptq' as const,
  scales: new Float32Array(2 * 8).fill(0.5),
  zeros: new Uint8Array(2 * 8),
  y: new Float64Array(8),
})

test('they compute what fits', () => {
  const [a, b, c] = [floats(), rows(), columns()]
  new Uint16Array(a.values.buffer).fill(0x3f80) // 1 in bf16
  addon().multiplyFloats(a)
  addon().multiplyRows(b)
  addon().addColumns(c)
  addon().addColumns({ ...c, order: 'awq', codes: new Int32Array(16).fill(0x11111111) })
  expect([...a.y]).toEqual([16, 16, 16])
  expect([...b.y]).toEqual([8, 8, 8])
  expect([...c.y]).toEqual(Array(8).fill(16)) // twice: sums go on
})

test.each([
  ['values', () => addon().multiplyFloats({ ...floats(), values: new Uint8Array(95) }), /values has 95 .* have 96/],
  ['an odd place', () => addon().multiplyFloats({ ...floats(), values: new Uint8Array(97).subarray(1) }), /begin at a/],
  [
    'a type',
    () => addon().multiplyFloats({ ...floats(), type: 'I8' as never }),
    /type must be F32, F16 or BF16, not I8/,
  ],
  [
    'leading',
    () => addon().multiplyFloats({ ...floats(), leading: 17 }),
    /leading must be a whole number from 0 to 16/,
  ],
  ['x', () => addon().multiplyFloats({ ...floats(), x: [1] as never }), /x must be a typed array/],
  ['codes of rows', () => addon().multiplyRows({ ...rows(), codes: new Int32Array(5) }), /codes has 5 .* have 6/],
  ['bits', () => addon().multiplyRows({ ...rows(), bits: 5 as never }), /bits must be 4 or 8/],
  ['scales', () => addon().multiplyRows({ ...rows(), scales: new Float32Array(7) }), /scales has 7 .* have 6/],
  ['zeros', () => addon().multiplyRows({ ...rows(), zeros: new Uint8Array(5) }), /zeros has 5 .* have 6/],
  ['groups', () => addon().multiplyRows({ ...rows(), groupOf: new Int32Array(15) }), /groupOf has 15 .* have 16/],
  [
    'codes of columns',
    () => addon().addColumns({ ...columns(), codes: new Int32Array(15) }),
    /codes has 120 .* have 128/,
  ],
  ['order', () => addon().addColumns({ ...columns(), order: 'exl2' as never }), /must be gptq or awq, not exl2/],
  [
    'bits of AWQ',
    () => addon().addColumns({ ...columns(), order: 'awq', codes: new Int32Array(32), bits: 8 }),
    /must be 4/,
  ],
])('wrong %s', (_, call, message) => {
  expect(call).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }))
})

test.each([-1, 2, 2 ** 31 - 1])('group %i of two', (group) => {
  const groupOf = new Int32Array(16)
  groupOf[15] = group
  const wanted = expect.objectContaining({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(/there are 2 groups/),
  })
  expect(() => addon().multiplyRows({ ...rows(), groupOf })).toThrow(wanted)
  expect(() => addon().addColumns({ ...columns(), groupOf })).toThrow(wanted)
})
