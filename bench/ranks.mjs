import { loadModel } from '../dist/index.mjs'
import { count, readArguments } from './lib/command-line.mjs'
import { busyCores, machine } from './lib/machine.mjs'
import { circumstances, summary, table, writeResult } from './lib/report.mjs'
import { DEFAULT_SHAPE } from './lib/shapes.mjs'
import { checkpointModel, defaultFolder } from './make-model.mjs'

const RANKS = 2
const WIDTHS = { divides: 44 * 128, 'is padded': 43 * 128 }
const PLACEMENTS = {
  'one device': { deviceMap: 'cpu' },
  [`${RANKS} ranks`]: { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: RANKS },
}

const usage = `npm run bench -- ranks [options]
  --prompt <n>    tokens of a prompt (512)
  --tokens <n>    tokens that are generated after one of 16 (64)
  --rounds <n>    measurements of each kind, which take turns (5)
  --layers <n>    decoder layers (${DEFAULT_SHAPE.layers})
  --models <dir>  where the models are made and kept (${defaultFolder})`

/** Tokens per second of a prompt, and of generating. */
async function measure(model, { prompt, tokens }, round) {
  const ids = (count) => Array.from({ length: count }, (_, i) => 300 + ((round * 7919 + i * 131) % 20000))
  const generate = async (input, maxNewTokens) => {
    const start = performance.now()
    const { timings } = await model.generate(input, { maxNewTokens, temperature: 0, ignoreEos: true }).result()
    return performance.now() - start - (maxNewTokens > 1 ? timings.timeToFirstToken : 0)
  }
  const prefill = (1000 * prompt) / (await generate(ids(prompt), 1))
  const decode = (1000 * tokens) / (await generate(ids(16), tokens + 1))
  return { prefill, decode }
}

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-ranks.json. */
export async function run(args) {
  const values = readArguments(usage, args, {
    prompt: count(512),
    tokens: count(64),
    rounds: count(5),
    layers: count(DEFAULT_SHAPE.layers),
    models: { type: 'string', default: defaultFolder },
  })
  if (values === undefined) return
  const options = { prompt: values.prompt, tokens: values.tokens, rounds: values.rounds }
  const busy = [await busyCores()]
  const kinds = []
  for (const [width, intermediate] of Object.entries(WIDTHS)) {
    const directory = checkpointModel(values.models, { ...DEFAULT_SHAPE, layers: values.layers, intermediate })
    for (const [placement, where] of Object.entries(PLACEMENTS)) {
      const model = await loadModel(directory, { ...where, maxModelLength: 1024, maxSequences: 1 })
      await measure(model, options, options.rounds) // warm-up
      kinds.push({ name: `${intermediate} channels, ${placement}`, width, placement, model, runs: [] })
    }
  }
  busy.push(await busyCores())
  for (let round = 0; round < options.rounds; round++) {
    for (const { model, runs } of round % 2 === 0 ? kinds : [...kinds].reverse()) {
      runs.push(await measure(model, options, round))
    }
    busy.push(await busyCores())
  }
  const results = kinds.map(({ name, runs }) => ({
    name,
    prefill: summary(runs.map(({ prefill }) => prefill)),
    decode: summary(runs.map(({ decode }) => decode)),
  }))
  for (const { model } of kinds) await model.dispose()
  const result = { benchmark: 'ranks', machine: machine(), ...options, busyCores: summary(busy), results }
  const rate = ({ min, median, max }) => `${median.toFixed(1)} (${min.toFixed(1)}..${max.toFixed(1)})`
  console.log(
    `${circumstances(result)}\n\n` +
      table([
        ['', 'prompt, tokens/s', 'generation, tokens/s'],
        ...results.map(({ name, prefill, decode }) => [name, rate(prefill), rate(decode)]),
      ]),
  )
  writeResult(result)
}
