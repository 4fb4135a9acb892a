import { afterEach, describe, expect, test } from 'vitest'
import { loadModel } from '../../../src/index'
import { golden, modelDirectory, textModels } from '../../support/fixtures'

afterEach(() => {
  delete process.env.BILLFISH_CUDA_GRAPHS
})

// Generations that begin and end at different times, so that the number of sequences changes from step to step and
// prompts come between decode steps; one is aborted.
async function generations(name: string, graphs: 'on' | 'off', ranks = 1) {
  process.env.BILLFISH_CUDA_GRAPHS = graphs
  const { prompts } = golden(name)
  await using model = await loadModel(modelDirectory(name), {
    deviceMap: Array.from({ length: ranks }, (_, rank) => `emulated:${rank}`).join(','),
    tensorParallelSize: ranks,
    maxModelLength: 96,
    maxSequences: 4,
  })
  const generate = (prompt: string, maxNewTokens: number, signal?: AbortSignal) =>
    model
      .generate(prompts[prompt] as number[], {
        maxNewTokens,
        temperature: 0,
        ignoreEos: true,
        ...(signal && { signal }),
      })
      .result()
  const controller = new AbortController()
  const aborted = generate('p7', 50, controller.signal).catch(({ name }) => name)
  const first = generate('p7', 9)
  const second = generate('p33', 3).then(async ({ tokenIds }) => {
    controller.abort()
    return [...tokenIds, ...(await generate('p7', 4)).tokenIds]
  })
  expect(await aborted).toBe('AbortError')
  return { first: (await first).tokenIds, second: await second }
}

describe.each(textModels)('%s', (name) => {
  test('generates the same with CUDA graphs and without', async () => {
    const { greedy } = golden(name)
    const tokens = await generations(name, 'on')
    expect(tokens.first).toEqual((greedy.p7 as number[]).slice(0, 9))
    expect(await generations(name, 'off')).toEqual(tokens)
  })
})

test.each(['qwen2-awq-int4-g128', 'qwen3-bf16', 'qwen2-gptq-int4-g32-desc_act'])(
  '%s generates the same on two ranks with CUDA graphs and without',
  async (name) => {
    const { greedy } = golden(name)
    const tokens = await generations(name, 'on', 2)
    expect(tokens.first).toEqual((greedy.p7 as number[]).slice(0, 9))
    expect(await generations(name, 'off', 2)).toEqual(tokens)
  },
)

test('BILLFISH_CUDA_GRAPHS is on or off', async () => {
  process.env.BILLFISH_CUDA_GRAPHS = 'sometimes'
  await expect(
    loadModel(modelDirectory('qwen2-gptq-int8-g128'), { deviceMap: 'emulated:0', maxModelLength: 64 }),
  ).rejects.toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('must be on or off') })
})
