/** What stands for a stage needs the buffers that the whole of it needs. */
import { describe, expect, test } from 'vitest'
import { runSync } from '../../../src/common/event-loop'
import { createModel } from '../../../src/models/registry'
import { traceRanks } from '../../../src/models/stages'
import type { StageSpec } from '../../../src/native/addon'
import { modelLimits } from '../../../src/placement/limits'
import { configWeights } from '../../../src/placement/plan-model'
import { PeakBuffers } from '../../../src/placement/planner/peak-buffers'
import { costsOf } from '../../../src/placement/planner/stage-costs'
import { stageMemory } from '../../../src/placement/planner/stage-memory'

const full = 'full_attention'
const sliding = 'sliding_attention'

/** Layers with a window and without, one letter each: `s` and `f`. */
function modelOf(layers: string) {
  const config = {
    model_type: 'qwen2',
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: layers.length,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 96,
    max_position_embeddings: 256,
    use_sliding_window: true,
    sliding_window: 64,
    layer_types: [...layers].map((letter) => (letter === 's' ? sliding : full)),
  }
  const source = configWeights(config)
  return { model: createModel(config, source), source }
}

describe.each([['sfsfsfsfsfsf'], ['sssssfsssssfsssssfss'], ['sffsffsffssfsffsff'], ['ffsfssfsffssfsfff']])(
  'layers %s',
  (layers) => {
    const { model, source } = modelOf(layers)
    const limits = modelLimits(model.shape, { maxSequences: 3, maxBatchTokens: 40 })

    test.each(['cpu:0', 'cuda:0'])('cost on %s what a trace of all of them says', (device) => {
      const costs = runSync(costsOf(model, source, 1))
      const needs = costs.needs(limits)(device)
      const { groups } = costs
      for (let first = 0; first < groups.length; first++) {
        for (let end = first + 1; end <= groups.length; end++) {
          const [stage] = runSync(traceRanks(model, source, { device, modules: groups.slice(first, end).flat() }, 1))
          const { weights, kvCache, buffers } = stageMemory(stage as StageSpec, limits)
          expect(needs.all(first, end).memory, `${first} to ${end}`).toBe(weights + kvCache + buffers)
        }
      }
    })
  },
)

test.each([
  ['a pattern', (i: number) => (i % 6 === 5 ? 2 : 1), 50],
  ['no pattern', (i: number) => ((i * 2654435761) >>> 16) % 2, 200],
  ['no pattern, of many shapes', (i: number) => ((i * 2654435761) >>> 16) % 97, 20_000],
])('layers that follow %s make few kinds of stages, however many layers there are', (_which, shapeOf, most) => {
  const shapes = [800, ...Array.from({ length: 1000 }, (_, i) => shapeOf(i)), 900]
  let [asked, longest] = [0, 0]
  const needs = new PeakBuffers(shapes).peak((groups) => {
    asked++
    longest = Math.max(longest, groups.length)
    return Math.max(...groups.map((group) => shapes[group] as number))
  })
  for (let first = 0; first < shapes.length; first += 3) {
    let expected = 0
    for (let end = first + 1; end <= shapes.length; end++) {
      expected = Math.max(expected, shapes[end - 1] as number)
      if (needs(first, end) !== expected) expect({ first, end, need: needs(first, end) }).toBe(expected)
    }
  }
  expect(asked).toBeLessThan(most)
  expect(longest).toBe(7)
})
