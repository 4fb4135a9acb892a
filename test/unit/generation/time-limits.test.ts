import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Deadline } from '../../../src/generation/time-limits'

const terms = {
  milliseconds: 1000,
  wallMillisecondsUnderLoad: 8000,
  cpuMilliseconds: 700,
  file: 'tokenizer.json',
  what: 'loading',
}
const schedule = join(mkdtempSync(join(tmpdir(), 'billfish-')), 'schedstat')
/** As Linux writes what a thread has computed and waited, in nanoseconds. */
const computed = (milliseconds: number) => writeFileSync(schedule, `${milliseconds * 1e6} 123456 78\n`)

test('work is limited by the processor time it takes, not by how long it waits for a processor', () => {
  computed(5000)
  const deadline = new Deadline(terms, schedule)
  expect(deadline.remaining).toBe(700)
  computed(5600)
  expect(deadline.remaining).toBe(100)
  computed(5700)
  expect(deadline.remaining).toBe(0)
  expect(deadline.error()).toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(
      /^tokenizer\.json: loading took more than 700 ms on the processor and was terminated/,
    ),
  })
  const patient = new Deadline({ ...terms, cpuMilliseconds: Number.POSITIVE_INFINITY }, schedule)
  expect(patient.remaining).toBeGreaterThan(7000)
  expect(patient.error().message).toMatch(/took more than 8000 ms and was terminated/)
})

test('work is limited by the clock if its processor time is unknown', () => {
  const deadline = new Deadline(terms, undefined)
  expect(deadline.remaining).toBeGreaterThan(0)
  expect(deadline.remaining).toBeLessThanOrEqual(1000)
  expect(deadline.error().message).toMatch(/loading took more than 1000 ms and was terminated/)
})
