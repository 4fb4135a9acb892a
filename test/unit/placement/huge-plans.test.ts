/** Sizes that no machine has: plans say so, whatever numbers a config or an option holds. */
import { describe, expect, test } from 'vitest'
import { type PlanOptions, planModel } from '../../../src/index'

const small = {
  model_type: 'qwen2',
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 128,
  vocab_size: 96,
  max_position_embeddings: 256,
}

describe.each(['cpu', 'cuda:0'])('on %s', (device) => {
  const options: PlanOptions = { deviceMap: device, maxMemory: { [device]: '99GB' } }

  test.each<[string, object, PlanOptions, RegExp]>([
    ['a cache', { max_position_embeddings: 2 ** 31 - 1 }, { maxModelLength: 2 ** 24, maxSequences: 2 ** 24 }, /blocks/],
    [
      'a cache that can be numbered',
      { num_key_value_heads: 2 ** 14, num_attention_heads: 2 ** 14, head_dim: 256, num_hidden_layers: 40 },
      { maxSequences: 2 ** 24, maxModelLength: 1024 },
      /2\^53/,
    ],
  ])('%s is refused with its numbers', async (_what, change, sizes, message) => {
    const plan = planModel({ ...small, ...change }, { ...options, ...sizes })
    await expect(plan).rejects.toThrow(message)
    await expect(plan).rejects.toMatchObject({ name: 'BillfishError' })
    await expect(plan).rejects.not.toMatchObject({ code: 'INTERNAL' })
  })

  test('the largest batches that options allow are counted', async () => {
    const batch = { maxBatchTokens: 2 ** 24, maxSequences: 2 ** 24, maxModelLength: 32 }
    const { stages, fits } = await planModel(small, { ...options, ...batch })
    expect(fits).toBe(false)
    expect(stages[0]?.buffers).toBeGreaterThan(2 ** 24 * 64 * 4)
  })
})
