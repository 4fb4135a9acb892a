import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseSpeculativeConfig } from '../../../src/cli/speculative-config'
import { billfish } from '../../support/programs'

const demoModel = join(__dirname, '../../..', 'examples', 'demo-model')

test("vLLM's names are taken", () => {
  const text = '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 3}'
  expect(parseSpeculativeConfig(text)).toEqual({ method: 'ngram', tokens: 5, minMatch: 3, maxMatch: 4 })
  expect(parseSpeculativeConfig('{"method": "ngram"}')).toMatchObject({ method: 'ngram' })
})

test.each([
  ['ngram', /--speculative-config is not JSON/],
  ['{"method": "eagle"}', /--speculative-config\.method is "eagle", but must be 'ngram'/],
  ['{"method": "ngram", "num_speculative_tokens": 99}', /num_speculative_tokens is 99, but must be a whole number/],
  ['{"method": "ngram", "draft_tensor_parallel_size": 1}', /There is no option .*draft_tensor_parallel_size/],
  ['[]', /--speculative-config is \[\], but must be a JSON object/],
])('%s is refused', (text, message) => {
  expect(() => parseSpeculativeConfig(text)).toThrow(message)
})

test('generate answers as without it', async () => {
  const options = [
    'Tell me a story.',
    '--context',
    '128',
    '--sequences',
    '1',
    '--temperature',
    '0',
    '-n',
    '30',
    '--json',
  ]
  const plain = await billfish(['generate', demoModel, ...options])
  const config = '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 1}'
  const drafting = await billfish(['generate', demoModel, ...options, '--speculative-config', config])
  expect(JSON.parse(drafting.stdout).text).toBe(JSON.parse(plain.stdout).text)
  const wrong = await billfish(['generate', demoModel, ...options, '--speculative-config', '{"method": "mtp"}'])
  expect(wrong).toMatchObject({ stdout: '', stderr: expect.stringMatching(/method is \\"mtp/) })
  expect(wrong.code).not.toBe(0)
})
