import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Model } from '../../../src'
import { createApp } from '../../../src/server'
import { fuzzRequests } from '../../fuzz/request-fuzzer.mjs'
import { loadDemo } from '../server/app'

const SEED = 1
const CASES = 400

let model: Model
beforeAll(async () => {
  model = await loadDemo({ maxModelLength: 128 })
})
afterAll(() => model.dispose())

describe('the fuzzer of requests', () => {
  const fuzz = (fetch: (request: Request) => Promise<Response>) =>
    fuzzRequests({ fetch, seed: SEED, more: (done: number) => done < CASES })

  it(`gets an answer or an error object to ${CASES} damaged requests`, async () => {
    const outcomes = await fuzz(createApp({ demo: model }).fetch)
    expect(outcomes.total).toBe(CASES)
    // Both must happen often, or the damage is too heavy or too light to test anything.
    for (const path of [
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/responses',
      '/v1/messages',
      '/v1/embeddings',
      '/tokenize',
      '/detokenize',
    ]) {
      expect(outcomes.of(`${path} 200`)).toBeGreaterThan(5)
      expect(outcomes.of(`${path} 400`)).toBeGreaterThan(5)
    }
    expect(model.activity()).toMatchObject({ running: 0, waiting: 0, cacheTokens: { inUse: 0 } })
  })

  it('reports a status that no damage explains, with the request', async () => {
    const crash = fuzz(async () => Response.json({ error: { message: 'a', type: 'server_error' } }, { status: 500 }))
    await expect(crash).rejects.toThrow(/^Case 0 with seed 1 failed: Error: the answer is 500 .*\n\/v1\//s)
  })

  it('reports an answer that is no JSON', async () => {
    await expect(fuzz(async () => new Response('oops'))).rejects.toThrow(/^Case 0 with seed 1 failed: SyntaxError/)
  })
})
