/**
 * The fuzzers for longer runs, on the built package:
 *
 *     npm run fuzz -- --minutes 5 --seed 1
 *     npm run fuzz -- --what templates --cases 1000000   or tokenizers, requests, schemas, or checkpoints (the default)
 *     npm run fuzz -- --minutes 5 --load                 load and run the damaged models natively, too
 *     npm run fuzz -- --seed 1 --case 4711               one case again
 *
 * A case fails if it crashes, throws anything but a refusal, or takes longer than its fuzzer allows; a run fails if its memory
 * grows by more than 512 MiB. Ctrl+C ends a run and prints its table.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { checkMemory, peakMemory, tidy } from './cases.mjs'
import { fuzzCheckpoints, loadAndRun } from './checkpoint-fuzzer.mjs'
import { fuzzRequests } from './request-fuzzer.mjs'
import { fuzzSchemas } from './schema-fuzzer.mjs'
import { fuzzTemplates, renderAsGenerationsDo, templatesOf } from './template-fuzzer.mjs'
import { fuzzTokenizers } from './tokenizer-fuzzer.mjs'
import { filesBesideWeights, smallTokenizer } from './tokenizer-mutations.mjs'

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
  console.error(`--${name} is ${JSON.stringify(values[name])}; it must be a number of at least 0`)
  process.exit(2)
}

const seed = number('seed', Date.now() % 1_000_000)
const first = number('case', 0)
const cases = values.case === undefined ? number('cases', Number.POSITIVE_INFINITY) : 1
const minutes = number('minutes', cases === Number.POSITIVE_INFINITY ? 1 : Number.POSITIVE_INFINITY)
const root = join(import.meta.dirname, '../..')
const models = join(root, 'test/fixtures/models')
const demo = join(root, 'examples/demo-model')
const require = createRequire(import.meta.url)
const built = (path) => require(join(root, 'dist', path))

process.removeAllListeners('warning') // of configs that contradict each other

const start = Date.now()
let reported = start

let interrupted = false
process.once('SIGINT', () => {
  interrupted = true
})

function more(done) {
  tidy()
  checkMemory(`${done} cases with seed ${seed}`)
  if (Date.now() - reported > 10_000) {
    reported = Date.now()
    console.log(`${done} cases in ${Math.round((reported - start) / 1000)} s`)
  }
  return !interrupted && done < cases && Date.now() - start < minutes * 60_000
}

/** Each runs its cases and returns their outcomes. */
const fuzzers = {
  checkpoints(options) {
    const { openCheckpoint } = built('open-checkpoint.js')
    const { loadGenerationAssets } = built('generation/assets.js')
    const { planModel, loadModel } = built('index.js')
    const load = values.load === true ? loadAndRun(loadModel) : undefined
    const files = filesBesideWeights(demo)
    return fuzzCheckpoints({ ...options, models, files, openCheckpoint, planModel, loadGenerationAssets, load })
  },
  templates(options) {
    const render = renderAsGenerationsDo({
      ...built('generation/chat-template.js'),
      ...built('generation/template-rendering.js'),
    })
    const tables = ['constructs', 'combinations'].map((name) => join(root, `test/fixtures/jinja/${name}.json`))
    const sources = templatesOf(join(demo, '..'), ...tables)
    return fuzzTemplates({ ...options, sources, render })
  },
  tokenizers(options) {
    const { loadTokenizer } = built('index.js')
    const files = smallTokenizer(demo)
    return fuzzTokenizers({ ...options, files, dist: join(root, 'dist'), loadTokenizer })
  },
  schemas(options) {
    return fuzzSchemas({ ...options, Grammars: built('chat/structured/grammars.js').Grammars })
  },
  async requests(options) {
    const model = await built('index.js').loadModel(demo, { deviceMap: 'cpu', maxModelLength: 128 })
    const { fetch } = built('server/index.js').createApp({ demo: model })
    try {
      return await fuzzRequests({ ...options, fetch })
    } finally {
      await model.dispose()
    }
  },
}

if (!Object.hasOwn(fuzzers, values.what)) {
  console.error(`--what is ${values.what}; there are ${Object.keys(fuzzers).join(', ')}`)
  process.exit(2)
}
try {
  const outcomes = await fuzzers[values.what]({ seed, first, more })
  const seconds = ((Date.now() - start) / 1000).toFixed(1)
  const { milliseconds, number } = outcomes.slowest
  console.log(outcomes.table())
  console.log(
    `${outcomes.total} ${values.what} with seed ${seed} in ${seconds} s, the slowest (${number}) in ` +
      `${milliseconds.toFixed(0)} ms, largest RSS ${Math.round(peakMemory() / 2 ** 20)} MiB`,
  )
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
