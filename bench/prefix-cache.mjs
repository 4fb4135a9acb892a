/**
 * `npm run bench -- prefix-cache`: time to the first token of a prompt that nobody has computed yet, beside one whose
 * beginning is in the prefix cache: a long system prompt with a new question behind it.
 */
import { loadModel } from '../dist/index.mjs'
import { count, readArguments } from './lib/command-line.mjs'
import { busyCores, machine } from './lib/machine.mjs'
import { circumstances, summary, table, writeResult } from './lib/report.mjs'
import { DEFAULT_SHAPE } from './lib/shapes.mjs'
import { checkpointModel, defaultFolder } from './make-model.mjs'

const usage = `npm run bench -- prefix-cache [options]
  --prompt <n>    tokens of a prompt (4096)
  --question <n>  tokens at its end that differ from prompt to prompt (128)
  --rounds <n>    prompts of each kind (3)
  --layers <n>    decoder layers (${DEFAULT_SHAPE.layers})
  --models <dir>  where the model is made and kept (${defaultFolder})`

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-prefix-cache.json. */
export async function run(args) {
  const values = readArguments(usage, args, {
    prompt: count(4096, 64),
    question: count(128),
    rounds: count(3),
    layers: count(DEFAULT_SHAPE.layers),
    models: { type: 'string', default: defaultFolder },
  })
  if (values === undefined) return
  const { prompt, question, rounds, layers } = values
  const directory = checkpointModel(values.models, { ...DEFAULT_SHAPE, layers })
  const model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: prompt + 1, maxSequences: 1 })

  const tokens = (length, seed) => Array.from({ length }, (_, i) => 300 + ((seed * 7919 + i * 131) % 20000))
  const measure = async (system, asked) => {
    const ids = [...tokens(prompt - question, system), ...tokens(question, 1000 + asked)]
    const { timings, usage } = await model.generate(ids, { maxNewTokens: 1, ignoreEos: true }).result()
    return { milliseconds: timings.timeToFirstToken, cachedTokens: usage.cachedTokens }
  }
  await model.generate(tokens(question, 0), { maxNewTokens: 1 }).result() // warm-up
  const [cold, cached] = [[], []]
  const busy = [await busyCores()]
  for (let round = 1; round <= rounds; round++) {
    cold.push(await measure(round, 2 * round))
    cached.push(await measure(round, 2 * round + 1))
    busy.push(await busyCores())
  }
  await model.dispose()
  const results = Object.entries({ cold, cached }).map(([name, runs]) => ({
    name,
    cachedTokens: runs[0].cachedTokens,
    milliseconds: summary(runs.map(({ milliseconds }) => milliseconds)),
  }))
  const ratio = results[0].milliseconds.median / results[1].milliseconds.median
  const options = { prompt, question, rounds, layers, ratio }
  const result = { benchmark: 'prefix-cache', machine: machine(), ...options, busyCores: summary(busy), results }
  const shown = ({ min, median, max }) => `${median.toFixed(0)} (${min.toFixed(0)}..${max.toFixed(0)})`
  console.log(
    `${circumstances(result)}\n` +
      `prompts of ${prompt} tokens; median (least..most) of ${rounds} rounds\n\n` +
      table([
        ['', 'of these cached', 'first token, ms'],
        ...results.map(({ name, cachedTokens, milliseconds }) => [name, String(cachedTokens), shown(milliseconds)]),
      ]) +
      `\n\ncold over cached: ${ratio.toFixed(1)}`,
  )
  writeResult(result)
}
