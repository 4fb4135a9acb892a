// What a grammar lets through is valid: answers of random allowed tokens, under random schemas.
import Ajv from 'ajv/dist/2020'
import { expect, test } from 'vitest'
import { randomSchema } from '../../../support/random-schemas'
import { randomAnswer, randomNumbers, TestVocabulary } from '../../../support/structured-answers'

const vocabulary = new TestVocabulary(3000)

test('answers of random tokens match their schemas', async () => {
  const ajv = new Ajv({ strict: false, ownProperties: true, allErrors: true, validateFormats: false, logger: false })
  let complete = 0
  for (let seed = 0; seed < 300; seed++) {
    const random = randomNumbers(seed)
    const schema = randomSchema(random) as object
    const { text, isComplete } = await randomAnswer(vocabulary, vocabulary.grammars(), { json: schema }, random)
    if (!isComplete) continue
    complete++
    const validate = ajv.compile(schema)
    const isValid = validate(JSON.parse(text))
    expect(isValid, `seed ${seed}: ${JSON.stringify(schema)}\n${text}\n${ajv.errorsText(validate.errors)}`).toBe(true)
  }
  expect(complete).toBeGreaterThan(280)
})
