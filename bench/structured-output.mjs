/**
 * `npm run bench -- structured-output`: what the mask of a token costs, over a made-up vocabulary of Qwen's size: to compile
 * a form, for the first answer of a form (nothing is known of its states), and for later ones.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { randomAnswer, TestVocabulary } from '../test/fuzz/structured-answers.mjs'
import { Random } from '../test/support/random.cjs'
import { count, readArguments } from './lib/command-line.mjs'
import { busyCores, machine, repository } from './lib/machine.mjs'
import { circumstances, summary, table, writeResult } from './lib/report.mjs'

const USAGE = `npm run bench -- structured-output [options]
  --vocabulary <n>   tokens (151936)
  --answers <n>      answers of each form, of at most 200 tokens (20)`

const address = {
  type: 'object',
  properties: {
    street: { type: 'string', pattern: '^[A-Z][a-z]{1,20}$' },
    zip: { type: 'string', pattern: '^\\d{5}$' },
  },
  required: ['street', 'zip'],
}
const FORMS = {
  'two members': {
    json: {
      type: 'object',
      properties: { name: { type: 'string' }, age: { type: 'integer' } },
      required: ['name', 'age'],
    },
  },
  'limits and patterns': {
    json: {
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1, maxLength: 40 },
        age: { type: 'integer', minimum: 0, maximum: 150 },
        tags: { type: 'array', items: { enum: ['red', 'green', 'blue'] }, maxItems: 5 },
        address,
      },
      required: ['name', 'age', 'tags', 'address'],
    },
  },
  '20 optional members': {
    json: {
      type: 'object',
      properties: Object.fromEntries(
        Array.from({ length: 20 }, (_, i) => [`k${i}`, { type: ['string', 'number', 'boolean'][i % 3] }]),
      ),
    },
  },
  'an enum of 2000': { json: { enum: Array.from({ length: 2000 }, (_, i) => `value ${i}`) } },
  'any object': { json: true },
  'a pattern': { regex: '[A-Z][a-z]+( [a-z]+){3,9}\\.' },
  'a grammar': { grammar: 'root ::= term ([-+] term)*\nterm ::= [0-9]{1,4} | "(" root ")"' },
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
const quantiles = (samples) => {
  const sorted = [...samples].sort((a, b) => a - b)
  return {
    median: at(sorted, 0.5),
    p90: at(sorted, 0.9),
    p99: at(sorted, 0.99),
    max: sorted.at(-1),
    tokens: sorted.length,
  }
}

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-structured-output.json. */
export async function run(args) {
  const values = readArguments(USAGE, args, { vocabulary: count(151_936), answers: count(20) })
  if (values === undefined) return
  const { Grammars } = createRequire(import.meta.url)(join(repository, 'dist/chat/structured/grammars.js'))
  const busy = [await busyCores()]
  const vocabulary = new TestVocabulary(values.vocabulary)
  const microseconds = (masks) => masks.map((milliseconds) => milliseconds * 1000)
  const results = []
  for (const [name, form] of Object.entries(FORMS)) {
    const grammars = new Grammars(vocabulary, vocabulary.tokens.length)
    // The tokens' trie, which a model makes once.
    ;(await grammars.matcher({ choice: ['a'] }, [vocabulary.endToken])).allowed()
    const begun = performance.now()
    await grammars.matcher(form, [vocabulary.endToken])
    const compile = performance.now() - begun
    const answers = []
    for (let i = 0; i < values.answers; i++) {
      const matcher = await grammars.matcher(form, [vocabulary.endToken])
      answers.push(microseconds(randomAnswer(vocabulary, matcher, new Random(i), { patience: 80, most: 200 }).masks))
    }
    const [first, ...later] = answers
    results.push({ name, compile, first: quantiles(first), later: quantiles(later.flat()) })
  }
  busy.push(await busyCores())
  const result = { benchmark: 'structured-output', machine: machine(), ...values, busyCores: summary(busy), results }
  const cells = ({ median, p90, p99, max }) => [median, p90, p99, max].map((value) => value.toFixed(0))
  console.log(
    `${circumstances(result)}\nmicroseconds a mask, over ${values.vocabulary} tokens\n\n` +
      table([
        ['form', 'compile, ms', 'first answer: median', 'p90', 'p99', 'most', 'later: median', 'p90', 'p99', 'most'],
        ...results.map(({ name, compile, first, later }) => [
          name,
          compile.toFixed(1),
          ...cells(first),
          ...cells(later),
        ]),
      ]),
  )
  writeResult(result)
}
