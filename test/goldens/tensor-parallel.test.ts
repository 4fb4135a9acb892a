import { describe, expect, test } from 'vitest'
import { loadModel } from '../../src/index'
import { denseModels, difference, golden, modelDirectory } from '../support/fixtures'
import { cut, modulesOfFixture } from '../support/splits'

/** As in goldens.test.ts. Partial sums of several ranks round elsewhere than one device's sums, and no worse. */
const float32Tolerance = 1.5e-4
const fp16Factor = 3

const group = (kind: string, first: number, ranks: number) =>
  Array.from({ length: ranks }, (_, i) => `${kind}:${first + i}`).join(',')

describe.each(denseModels)('%s', (name) => {
  const expected = golden(name)
  const modules = modulesOfFixture(name, expected)
  const twoStages = cut(modules, [Math.floor((modules.length - 3) / 2)], [group('cpu', 0, 2), group('cpu', 2, 2)])

  test.each([
    [2, group('cpu', 0, 2)],
    [3, group('cpu', 0, 3)],
    [4, group('cpu', 0, 4)],
    [2, twoStages],
    [2, group('emulated', 0, 2)],
    [3, group('emulated', 0, 3)],
  ])('tensorParallelSize %i over %j', async (tensorParallelSize, deviceMap) => {
    const exact = JSON.stringify(deviceMap).includes('cpu')
    for (const dtype of exact ? (['float32', 'auto'] as const) : (['auto'] as const)) {
      const sizes = { dtype, tensorParallelSize, maxModelLength: 64, maxSequences: 2 }
      await using model = await loadModel(modelDirectory(name), { ...sizes, deviceMap })
      for (const prompt of ['p7', 'p33']) {
        const ids = expected.prompts[prompt] as number[]
        const { logits, hiddenStates } = await model.forward(ids, { hiddenStates: true })
        const off = difference(logits, expected.tensor(`${prompt}.logits`))
        const fp16 = expected.measured.fp16?.[prompt] as { logits_max_abs: number; logits_mean_abs: number }
        expect(off.max).toBeLessThanOrEqual(dtype === 'float32' ? float32Tolerance : fp16Factor * fp16.logits_max_abs)
        if (prompt === 'p33') {
          for (const [i, state] of hiddenStates.entries()) {
            const hidden = difference(state, expected.tensor(i === 0 ? 'p33.embed' : `p33.layer.${i - 1}`))
            expect(hidden.max).toBeLessThanOrEqual(dtype === 'float32' ? float32Tolerance : fp16Factor * 0.15)
          }
        }
        const greedy = await model.generate(ids, { maxNewTokens: 24, temperature: 0, ignoreEos: true }).result()
        expect(greedy.tokenIds).toEqual(expected.greedy[prompt])
      }
      for (const { planned, weights, kvCache, buffers } of model.memory()) {
        expect({ weights, kvCache, buffers }).toEqual(planned)
      }
    }
  })
})
