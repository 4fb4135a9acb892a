/**
 * The checkpoint fuzzer for longer runs, on the built package:
 *
 *     npm run fuzz -- --minutes 5 --seed 1
 *     npm run fuzz -- --minutes 5 --load          load and run the damaged models natively, too
 *     npm run fuzz -- --seed 1 --case 4711        one case again
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fuzzCheckpoints } from './checkpoint-fuzzer.mjs'
import { loadAndRun } from './load-and-run.mjs'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seed: { type: 'string' },
    case: { type: 'string' },
    load: { type: 'boolean' },
  },
})

function number(name, fallback) {
  const value = Number(values[name] ?? fallback)
  if (Number.isFinite(value) && value >= 0) return value
  console.error(`--${name} is ${JSON.stringify(values[name])}; a number that is not negative is needed`)
  process.exit(2)
}

const minutes = number('minutes', 1)
const seed = number('seed', Date.now() % 1_000_000)
const root = join(import.meta.dirname, '../..')
const require = createRequire(import.meta.url)
const { openCheckpoint } = require(join(root, 'dist/checkpoint/checkpoint.js'))
const { loadModel } = require(join(root, 'dist/index.js'))

const load = loadAndRun(loadModel)

process.removeAllListeners('warning') // of configs that contradict each other

const start = Date.now()
const end = start + minutes * 60_000
const isSingle = values.case !== undefined
let largestRss = 0
let reported = start

function more(cases) {
  largestRss = Math.max(largestRss, process.memoryUsage.rss())
  if (Date.now() - reported > 10_000) {
    reported = Date.now()
    console.log(`${cases} cases in ${Math.round((reported - start) / 1000)} s`)
  }
  return isSingle ? cases < 1 : Date.now() < end
}

const options = {
  models: join(root, 'test/fixtures/models'),
  openCheckpoint,
  load: values.load === true ? load : undefined,
  seed,
  first: number('case', 0),
  more,
}
try {
  const { cases, opened } = await fuzzCheckpoints(options)
  const seconds = ((Date.now() - start) / 1000).toFixed(1)
  console.log(
    `${cases} cases with seed ${seed} in ${seconds} s: ${opened} opened, ${cases - opened} refused, ` +
      `largest RSS ${Math.round(largestRss / 2 ** 20)} MiB`,
  )
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
