/**
 * The fuzzers for longer runs, on the built package:
 *
 *     npm run fuzz -- --minutes 5 --seed 1
 *     npm run fuzz -- --what templates --cases 1000000   or tokenizers, or checkpoints (the default)
 *     npm run fuzz -- --minutes 5 --load                 load and run the damaged models natively, too
 *     npm run fuzz -- --seed 1 --case 4711               one case again
 *
 * A case fails that crashes, throws anything but a refusal, or takes longer than its fuzzer allows; and so does a run whose
 * memory grows by more than 512 MiB.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fuzzCheckpoints } from './checkpoint-fuzzer.mjs'
import { loadAndRun } from './load-and-run.mjs'
import { fuzzTemplates, templatesOf } from './template-fuzzer.mjs'
import { fuzzTokenizers, smallTokenizer } from './tokenizer-fuzzer.mjs'

const { values } = parseArgs({
  options: {
    what: { type: 'string', default: 'checkpoints' },
    minutes: { type: 'string' },
    cases: { type: 'string' },
    seed: { type: 'string' },
    case: { type: 'string' },
    load: { type: 'boolean' },
  },
})

function number(name, fallback) {
  const value = Number(values[name] ?? fallback)
  if (!Number.isNaN(value) && value >= 0) return value
  console.error(`--${name} is ${JSON.stringify(values[name])}; a number that is not negative is needed`)
  process.exit(2)
}

const seed = number('seed', Date.now() % 1_000_000)
const first = number('case', 0)
const cases = values.case === undefined ? number('cases', Number.POSITIVE_INFINITY) : 1
const minutes = number('minutes', cases === Number.POSITIVE_INFINITY ? 1 : Number.POSITIVE_INFINITY)
const largestGrowth = 512 * 2 ** 20
const root = join(import.meta.dirname, '../..')
const models = join(root, 'test/fixtures/models')
const demo = join(root, 'examples/demo-model')
const require = createRequire(import.meta.url)
const built = (path) => require(join(root, 'dist', path))

process.removeAllListeners('warning') // of configs that contradict each other

const start = Date.now()
const rssBefore = process.memoryUsage.rss()
let largestRss = rssBefore
let reported = start

function more(done) {
  largestRss = Math.max(largestRss, process.memoryUsage.rss())
  if (largestRss - rssBefore > largestGrowth) {
    throw new Error(`after ${done} cases with seed ${seed} the process has ${Math.round(largestRss / 2 ** 20)} MiB`)
  }
  if (Date.now() - reported > 10_000) {
    reported = Date.now()
    console.log(`${done} cases in ${Math.round((reported - start) / 1000)} s`)
  }
  return done < cases && Date.now() - start < minutes * 60_000
}

/** Each runs its cases, and says what became of them. */
const fuzzers = {
  async checkpoints(options) {
    const { openCheckpoint } = built('checkpoint/checkpoint.js')
    const load = values.load === true ? loadAndRun(built('index.js').loadModel) : undefined
    const { cases, opened } = await fuzzCheckpoints({ ...options, models, openCheckpoint, load })
    return { cases, text: `${opened} opened, ${cases - opened} refused` }
  },
  async templates(options) {
    const { ChatTemplate, renderChat = renderNow } = built('generation/chat-template.js')
    const sources = [
      ...templatesOf(models, join(root, 'test/fixtures/jinja/constructs.json')),
      ...templatesOf(join(demo, '..'), join(root, 'test/fixtures/jinja/constructs.json')),
    ]
    const tokenizer = { specialTokens: { bos: '<s>', eos: '</s>' } }
    const render = (source, messages, rest) =>
      renderChat(new ChatTemplate(new Map([['default', source]]), 'a template', tokenizer), messages, rest)
    const { cases, rendered, slowest } = await fuzzTemplates({ ...options, sources, render })
    return { cases, text: `${rendered} rendered, ${cases - rendered} refused, the slowest in ${slowest.toFixed(0)} ms` }
  },
  async tokenizers(options) {
    const { loadTokenizer } = built('index.js')
    const { cases, encoded, slowest } = await fuzzTokenizers({ ...options, files: smallTokenizer(demo), loadTokenizer })
    return { cases, text: `${encoded} encoded, ${cases - encoded} refused, the slowest in ${slowest.toFixed(0)} ms` }
  },
}

function renderNow(template, messages, options) {
  return template.render(messages, options)
}

if (!Object.hasOwn(fuzzers, values.what)) {
  console.error(`--what is ${values.what}; there are ${Object.keys(fuzzers).join(', ')}`)
  process.exit(2)
}
try {
  const { cases, text } = await fuzzers[values.what]({ seed, first, more })
  const seconds = ((Date.now() - start) / 1000).toFixed(1)
  console.log(
    `${cases} ${values.what} with seed ${seed} in ${seconds} s: ${text}, largest RSS ${Math.round(largestRss / 2 ** 20)} MiB`,
  )
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
