/**
 * Writes answers of random tokens under random schemas. What ends by itself is valid JSON of its schema, as ajv sees it, or
 * the schema is refused.
 */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { kindOfRefusal, Outcomes, randomOf, Stopwatch } from './cases.mjs'
import { randomSchema } from './random-schemas.mjs'
import { randomAnswer, TestVocabulary } from './structured-answers.mjs'

/**
 * @param {object} options
 * @param {typeof import('../../src/chat/structured/grammars').Grammars} options.Grammars
 * @param {number} options.seed
 * @param {number} [options.first] number of the first case
 * @param {(done: number) => boolean} options.more whether to run another case after `done` cases
 * @returns {Promise<Outcomes>} kinds are `valid`, `cut off` and those of refusals
 * @throws {Error} that tells how to run the failing case again
 */
export async function fuzzSchemas({ Grammars, seed, first = 0, more }) {
  const outcomes = new Outcomes()
  const vocabulary = new TestVocabulary(3000)
  const grammars = new Grammars(vocabulary, vocabulary.tokens.length)
  const ajv = new Ajv2020({ strict: false, ownProperties: true, validateFormats: false, logger: false })
  for (let number = first; more(number - first); number++) {
    const random = randomOf(seed, number)
    const schema = randomSchema(random)
    const watch = new Stopwatch()
    const failed = (what) => {
      throw new Error(`Case ${number} with seed ${seed} failed: ${what}\n${JSON.stringify(schema)}`)
    }
    try {
      const matcher = await grammars.matcher({ json: schema }, [vocabulary.endToken])
      const { text, isComplete } = randomAnswer(vocabulary, matcher, random)
      const validate = ajv.compile(schema)
      if (isComplete && !validate(JSON.parse(text))) failed(`${ajv.errorsText(validate.errors)} in ${text}`)
      ajv.removeSchema() // which it would keep for good
      outcomes.add(isComplete ? 'valid' : 'cut off', number, watch.read())
    } catch (error) {
      if (error?.name !== 'BillfishError') failed(String(error?.stack ?? error).slice(0, 2000))
      outcomes.add(kindOfRefusal(error, ['INVALID_OPTION']), number, watch.read())
    }
  }
  return outcomes
}
