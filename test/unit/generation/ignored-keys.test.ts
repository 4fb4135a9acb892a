/** Keys of config.json that contradict each other, or that nothing is known of. */
import { expect, test } from 'vitest'
import { loadModel } from '../../../src'
import { checkpointWarnings } from '../../../src/models/registry'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { withConfig } from '../../support/fixture-copies'
import { modelDirectory } from '../../support/fixtures'

const noticesWith = async (more: Record<string, unknown>) =>
  checkpointWarnings(await openCheckpoint(withConfig('qwen2-bf16', (config) => ({ ...config, ...more }))))

test('unknown keys cause a warning if they may have an effect', async () => {
  const harmless = { made_up: null, another: false, empty: [], none: {}, _private: 3, image_token_id: 5 }
  expect(await noticesWith(harmless)).toEqual([])
  expect(await noticesWith({ mup_base_width: 256, rope_ratio: 2 })).toEqual([
    expect.stringMatching(/config\.json: unknown keys are ignored: "mup_base_width", "rope_ratio"\.$/),
  ])
  const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`key${i}`, i + 1]))
  expect(await noticesWith(many)).toEqual([expect.stringMatching(/"key7" and 992 more\.$/)])
})

test("Qwen v1's keys are ignored in other models, with a warning", async () => {
  expect(await noticesWith({ use_logn_attn: true, rotary_emb_base: 500 })).toEqual([
    expect.stringContaining('unknown keys are ignored: "use_logn_attn", "rotary_emb_base".'),
  ])
  expect(checkpointWarnings(await openCheckpoint(modelDirectory('qwen1-fp16')))).toEqual([])
})

const sliding = { layer_types: Array(4).fill('sliding_attention'), sliding_window: 2 }
test.each<[Record<string, unknown>, RegExp]>([
  [sliding, /layer_types is .*must be without sliding_attention, as use_sliding_window is not true/],
  [
    { ...sliding, use_sliding_window: true, sliding_window: null },
    /without sliding_attention, as sliding_window is null/,
  ],
  [
    { rope_scaling: { factor: 4 } },
    /rope_scaling: rope_type is missing, but must be set, because factor 4 has no meaning/,
  ],
  [{ rope_parameters: { type: null, factor: 0.5 } }, /rope_parameters: rope_type is missing/],
])('%j is refused', async (more, message) => {
  const directory = withConfig('qwen2-bf16', (config) => ({ ...config, ...more }))
  await expect(loadModel(directory, { deviceMap: 'cpu' })).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(message),
  })
})

test.each([{ factor: 1 }, {}, { rope_type: 'default', factor: 4 }])(
  'rope_scaling %j is the plain rotary embedding',
  async (rope_scaling) => {
    const directory = withConfig('qwen2-bf16', (config) => ({ ...config, rope_scaling }))
    await using model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 32 })
    await using plain = await loadModel(modelDirectory('qwen2-bf16'), { deviceMap: 'cpu', maxModelLength: 32 })
    expect((await model.forward([1, 2, 3])).logits).toEqual((await plain.forward([1, 2, 3])).logits)
  },
)
