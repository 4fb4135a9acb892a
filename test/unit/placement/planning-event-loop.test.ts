/** Planning is long work for a deep model: other events have their turn meanwhile, and a signal ends it. */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, type PlanOptions, planModel } from '../../../src'
import { type CooperativeTask, runCooperatively, runSync } from '../../../src/common/event-loop'
import { loadFrom } from '../../../src/load'
import { configWeights } from '../../../src/placement/plan-model'

/** As deep as a config may be: planning it takes a tenth of a second or more. */
const deep = {
  model_type: 'qwen2',
  hidden_size: 512,
  num_hidden_layers: 1000,
  num_attention_heads: 8,
  num_key_value_heads: 8,
  intermediate_size: 1024,
  vocab_size: 1000,
  max_position_embeddings: 1024,
  torch_dtype: 'bfloat16',
}
const over = (bytes: string, ...devices: string[]) => Object.fromEntries(devices.map((device) => [device, bytes]))
const placements: [string, PlanOptions][] = [
  ['on one device', { deviceMap: 'cpu', maxMemory: { cpu: '99GB' } }],
  ['over four', { maxMemory: over('9GB', 'cpu:0', 'cpu:1', 'cpu:2', 'cpu:3') }],
  ['over devices that are too small', { maxMemory: over('300MB', 'cpu:0', 'cpu:1') }],
  ['by a strategy, over devices that are too small', { deviceMap: 'balanced', maxMemory: over('300MB', 'cuda:0') }],
  ['with tensor parallelism', { tensorParallelSize: 2, maxMemory: over('9GB', 'cpu:0', 'cpu:1') }],
]

/** How many turns other events had while `work` went on, which must not wait for anything else. */
async function turnsOf(work: Promise<unknown>): Promise<number> {
  let turns = 0
  let immediate = setImmediate(function count() {
    turns++
    immediate = setImmediate(count)
  })
  await work.finally(() => clearImmediate(immediate))
  return turns
}

/** A signal that aborts in the next turn of the event loop, if there is one. */
function soonAborted(): { signal: AbortSignal; reason: Error } {
  const [controller, reason] = [new AbortController(), new Error('not wanted any more')]
  setImmediate(() => controller.abort(reason))
  return { signal: controller.signal, reason }
}

describe.each(placements)('a model of a thousand layers %s', (_where, options) => {
  test('is planned in many turns of the event loop', async () => {
    expect(await turnsOf(planModel(deep, options))).toBeGreaterThan(4)
  })

  test('stops being planned once the signal aborts', async () => {
    const { signal, reason } = soonAborted()
    await expect(planModel(deep, { ...options, signal })).rejects.toBe(reason)
  })

  test('is not loaded once the signal aborts while it is planned', async () => {
    const { signal, reason } = soonAborted()
    const source = {
      config: deep,
      weights: configWeights(deep),
      files: [],
      randomWeights: true,
      assets: () => Promise.reject(new Error('loading went on')),
    }
    await expect(loadFrom(source, { ...options, signal } satisfies LoadOptions)).rejects.toBe(reason)
  })
})

test('a signal that has already aborted ends planning before anything is read', async () => {
  await expect(planModel('/no/such/directory', { signal: AbortSignal.abort('why') })).rejects.toBe('why')
})

describe('work in steps', () => {
  function* work(steps: number, milliseconds: number): CooperativeTask<number> {
    for (let i = 0; i < steps; i++) {
      for (const until = performance.now() + milliseconds; performance.now() < until; );
      yield
    }
    return steps
  }

  test('pauses by time, not by steps', async () => {
    expect(await turnsOf(runCooperatively(work(10, 5)))).toBeGreaterThan(8)
    expect(await turnsOf(runCooperatively(work(10, 0)))).toBeLessThan(10)
  })

  test('has the same result in one turn', async () => {
    expect([runSync(work(3, 0)), await runCooperatively(work(3, 0))]).toEqual([3, 3])
  })

  test('throws what it throws', async () => {
    const failing = function* (): CooperativeTask<never> {
      yield
      throw new Error('no')
    }
    await expect(runCooperatively(failing())).rejects.toThrow('no')
    expect(() => runSync(failing())).toThrow('no')
  })
})
