/** The goldens with several ranks a stage, on CPU devices and through the CUDA sources on emulated ones. */
import { writeFileSync } from 'node:fs'
import { afterAll, describe, expect, test } from 'vitest'
import { loadModel } from '../../src/index'
import {
  cut,
  difference,
  golden,
  greedyTokens,
  hybridModels,
  modelDirectory,
  modulesOfFixture,
  representativeModels,
  splitModels,
  typeOnGpus,
} from '../support/fixtures'

/** As in goldens.test.ts and emulated.test.ts: partial sums round elsewhere than one device's sums, and no worse. */
const float32Tolerance = 1.5e-4
/** The same of hybrids, whose states carry an error on. */
const hybridTolerance = 5e-4
const factor = 3

/** Model -> column of docs/accuracy.md -> the largest errors of the logits on 2, 3 and 4 ranks and on two stages of two. */
const errors = new Map<string, Record<'float32' | 'auto' | 'emulated', string[]>>()
afterAll(() => {
  const path = process.env.BILLFISH_GOLDEN_TABLE // where to write what docs/accuracy.md shows
  const rows = [...errors].map(([name, { float32, auto, emulated }]) =>
    ['', name, ...[float32, auto, emulated].map((cells) => cells.join(' / ')), ''].join(' | ').trim(),
  )
  if (path) writeFileSync(path, `${rows.join('\n')}\n`)
})

const group = (kind: string, first: number, ranks: number) =>
  Array.from({ length: ranks }, (_, i) => `${kind}:${first + i}`).join(',')

describe.each(splitModels)('%s', (name) => {
  const expected = golden(name)
  const modules = modulesOfFixture(name, expected)
  const tolerance = hybridModels.includes(name) ? hybridTolerance : float32Tolerance
  const twoStages = (kind: string) => cut(modules, [0], [group(kind, 0, 2), group(kind, 2, 2)])
  const type = typeOnGpus(name)
  const dtypeOnGpus = type === 'fp16' ? 'float16' : 'bfloat16'

  const check = async (
    deviceMap: string | Record<string, string>,
    tensorParallelSize: number,
    dtype: 'float32' | 'auto' | 'float16' | 'bfloat16',
    type: 'fp32' | 'fp16' | 'bf16',
  ) => {
    const sizes = { dtype, tensorParallelSize, maxModelLength: 64, maxSequences: 2 }
    await using model = await loadModel(modelDirectory(name), { ...sizes, deviceMap })
    let worst = 0
    for (const prompt of ['p7', 'p33']) {
      const ids = expected.prompts[prompt] as number[]
      const { logits, hiddenStates } = await model.forward(ids, { hiddenStates: prompt === 'p33' })
      const measured = expected.measured[type]?.[prompt]
      const bounds =
        type === 'fp32'
          ? { logits: tolerance, hidden: tolerance }
          : {
              logits: factor * (measured?.logits_max_abs as number),
              hidden: factor * (measured?.last_layer_max_abs as number),
            }
      const off = difference(logits, expected.tensor(`${prompt}.logits`)).max
      worst = Math.max(worst, off)
      expect(off).toBeLessThanOrEqual(bounds.logits)
      for (const [i, state] of hiddenStates.entries()) {
        const hidden = difference(state, expected.tensor(i === 0 ? 'p33.embed' : `p33.layer.${i - 1}`))
        expect(hidden.max, `hidden state ${i}`).toBeLessThanOrEqual(bounds.hidden)
      }
    }
    // Both at once: a batch takes the emulator as long as one sequence.
    const prompts = ['p7', 'p33']
    const continuations = await Promise.all(prompts.map((prompt) => greedyTokens(model, expected.prompts[prompt])))
    expect(continuations).toEqual(prompts.map((prompt) => expected.greedy[prompt]))
    for (const { planned, weights, kvCache, states, buffers } of model.memory()) {
      expect({ weights, kvCache, states, buffers }).toEqual(planned)
    }
    const all = errors.get(name) ?? { float32: [], auto: [], emulated: [] }
    errors.set(name, all)
    const column = dtype === 'float32' || dtype === 'auto' ? dtype : 'emulated'
    all[column].push(dtype === 'float32' ? worst.toExponential(1) : worst.toPrecision(3))
  }

  test.each([2, 3, 4])('%i ranks on the CPU', async (ranks) => {
    await check(group('cpu', 0, ranks), ranks, 'float32', 'fp32')
    await check(group('cpu', 0, ranks), ranks, 'auto', 'fp16')
  })

  test('two stages of two ranks on the CPU', async () => {
    await check(twoStages('cpu'), 2, 'float32', 'fp32')
    await check(twoStages('cpu'), 2, 'auto', 'fp16')
  })

  // Of the others the CPU has all numbers of ranks.
  const all = process.env.BILLFISH_GOLDEN_TABLE || representativeModels.includes(name)
  test.each(all ? [2, 3, 4] : [3])('%i ranks on emulated devices', async (ranks) => {
    await check(group('emulated', 0, ranks), ranks, dtypeOnGpus, type)
  })

  test('two stages of two ranks on emulated devices', async () => {
    await check(twoStages('emulated'), 2, dtypeOnGpus, type)
  })
})
