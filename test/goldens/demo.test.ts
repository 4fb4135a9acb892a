import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { loadTokenizer } from '../../src/generation/tokenizer'
import { layerSplit, loadModel } from '../../src/index'

const directory = resolve(__dirname, '../../examples/demo-model')
const reference = JSON.parse(readFileSync(resolve(__dirname, '../fixtures/demo-reference.json'), 'utf8'))
const load = (dtype: 'auto' | 'float32') =>
  loadModel(directory, { dtype, deviceMap: layerSplit(['cpu:0', 'cpu:1'], 8), maxModelLength: 1024, maxSequences: 8 })

test('over two devices the demo model answers as transformers does: 217 of 219 prompts', async () => {
  const { exactMatch } = await import('../../bench/accuracy.mjs')
  await using model = await load('auto')
  const { right, of, wrong } = await exactMatch(model)
  expect({ right, of }).toEqual({ right: 217, of: 219 })
  const byPrompt = (a: { prompt: string }, b: { prompt: string }) => (a.prompt < b.prompt ? -1 : 1)
  const expected = reference.wrong.map(({ prompt, answer, output }: Record<string, string>) => ({
    prompt,
    expected: answer,
    answer: output,
  }))
  expect(wrong.sort(byPrompt)).toEqual(expected.sort(byPrompt))
})

test('the chat template and tokenizer give the reference ids, the logits the reference values', async () => {
  await using model = await load('float32')
  const tokenizer = await loadTokenizer(directory)
  for (const { prompt, prompt_ids, output_ids } of reference.greedy) {
    const messages = [{ role: 'user', content: prompt }]
    const result = await model.generate(messages, { temperature: 0, maxNewTokens: output_ids.length }).result()
    expect(result.usage.promptTokens).toBe(prompt_ids.length)
    expect(result.tokenIds.slice(0, output_ids.length)).toEqual(output_ids)
    expect(result.text).toBe(tokenizer.decode(output_ids, { skipSpecialTokens: true }))
  }
  const { prompt_ids, ids, values } = reference.logits
  const { logits, vocabSize } = await model.forward(prompt_ids)
  const last = logits.subarray((prompt_ids.length - 1) * vocabSize)
  for (const [i, id] of ids.entries()) expect(last[id]).toBeCloseTo(values[i], 3)
})
