// What a grammar lets through is valid: answers of random allowed tokens, under random schemas.
import { expect, test } from 'vitest'
import { Grammars } from '../../../../src/chat/structured/grammars'

test('answers of random tokens match 300 random schemas', async () => {
  const { fuzzSchemas } = await import('../../../fuzz/schema-fuzzer.mjs')
  const outcomes = await fuzzSchemas({ Grammars, seed: 1, more: (done) => done < 300 })
  expect(outcomes.total).toBe(300)
  expect(outcomes.of('valid')).toBeGreaterThan(270)
})
