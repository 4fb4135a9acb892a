/**
 * `npm run bench -- pipeline`: how busy the stages of a model are while 1, 2, 4 and 8 sequences are generated over two,
 * three and four stages of this machine's processor, beside what their own times allow at best.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { layerSplit, loadModel } from '../dist/index.mjs'
import { count, readArguments } from './lib/command-line.mjs'
import { busyCores, machine } from './lib/machine.mjs'
import { circumstances, summary, table, writeResult } from './lib/report.mjs'
import { DEFAULT_SHAPE } from './lib/shapes.mjs'
import { checkpointModel, defaultFolder } from './make-model.mjs'

const PROMPT_TOKENS = 16
const STAGE_COUNTS = [2, 3, 4]
const SEQUENCE_COUNTS = [1, 2, 4, 8]

const usage = `npm run bench -- pipeline [options]
  --tokens <n>    tokens that each sequence generates (64)
  --rounds <n>    measurements of each kind (3)
  --layers <n>    decoder layers (${DEFAULT_SHAPE.layers})
  --models <dir>  where the model is made and kept (${defaultFolder})
  --traces <dir>  write the last trace of each kind there, for ui.perfetto.dev`

/** Generates `sequences` answers at once; returns tokens a second after the first ones, and the trace of that time. */
async function decode(model, sequences, tokens) {
  const prompt = (i) => Array.from({ length: PROMPT_TOKENS }, (_, j) => 300 + ((i * 7919 + j * 131) % 20000))
  const before = (model.trace().steps.at(-1)?.step ?? -1) + 1
  await Promise.all(
    Array.from({ length: sequences }, (_, i) =>
      model.generate(prompt(i), { maxNewTokens: tokens, temperature: 0, ignoreEos: true }).result(),
    ),
  )
  // Only while every sequence generates: after the last step that read a prompt, before any sequence ended.
  const trace = model.trace().slice(before)
  const lastPrompt = trace.steps.findLast((step) => step.tokens > step.sequences).step
  return trace.slice(lastPrompt + 1, trace.steps.at(-1).step + 1 - sequences)
}

/**
 * What the stages' own times allow: with m steps under way a round of them takes as long as one step takes through all
 * stages, or as m steps take through the slowest.
 */
function ideal(trace, microBatches) {
  const times = trace.stages.map((_, stage) => {
    const each = trace.steps.map(({ stages }) => stages[stage].end - stages[stage].begin)
    return each.reduce((sum, time) => sum + time, 0) / each.length
  })
  const sum = times.reduce((a, b) => a + b, 0)
  const round = Math.max(sum, microBatches * Math.max(...times))
  return { times, utilization: times.map((time) => (microBatches * time) / round) }
}

function rate(trace) {
  const begin = trace.steps[0].stages.at(-1).end
  const end = trace.steps.at(-1).stages.at(-1).end
  const tokens = trace.steps.slice(1).reduce((sum, step) => sum + step.tokens, 0)
  return (tokens * 1000) / (end - begin)
}

async function measure(directory, shape, stages, microBatches, options) {
  const devices = Array.from({ length: stages }, (_, i) => `cpu:${i}`)
  const model = await loadModel(directory, {
    deviceMap: stages === 1 ? 'cpu' : layerSplit(devices, shape.layers),
    maxModelLength: 1024,
    maxSequences: Math.max(...SEQUENCE_COUNTS),
    microBatches,
  })
  await decode(model, 2, 8) // warm-up
  const results = []
  for (const sequences of SEQUENCE_COUNTS) {
    const runs = []
    for (let round = 0; round < options.rounds; round++) {
      const trace = await decode(model, sequences, options.tokens)
      const best = ideal(trace, Math.min(microBatches, sequences))
      runs.push({ rate: rate(trace), utilization: trace.utilization(), ideal: best.utilization, times: best.times })
      if (options.traces && round === options.rounds - 1) {
        mkdirSync(options.traces, { recursive: true })
        const file = join(options.traces, `${stages}-stages-${microBatches}-steps-${sequences}-sequences.json`)
        writeFileSync(file, JSON.stringify(trace.toChromeTrace()))
      }
    }
    const mean = (of) => devices.map((_, stage) => summary(runs.map((run) => of(run)[stage])).median)
    results.push({
      stages,
      microBatches,
      sequences,
      tokensPerSecond: summary(runs.map((run) => run.rate)),
      utilization: mean((run) => run.utilization),
      ideal: mean((run) => run.ideal),
      stageMilliseconds: mean((run) => run.times),
    })
  }
  await model.dispose()
  return results
}

const percents = (parts) => parts.map((part) => `${(100 * part).toFixed(0)}`.padStart(3)).join(' ')

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-pipeline.json. */
export async function run(args) {
  const values = readArguments(usage, args, {
    tokens: count(64),
    rounds: count(3),
    layers: count(DEFAULT_SHAPE.layers),
    models: { type: 'string', default: defaultFolder },
    traces: { type: 'string' },
  })
  if (values === undefined) return
  const options = { tokens: values.tokens, rounds: values.rounds, traces: values.traces }
  const shape = { ...DEFAULT_SHAPE, layers: values.layers }
  const directory = checkpointModel(values.models, shape)
  const busy = [await busyCores()]
  const results = []
  for (const [stages, microBatches] of [
    [1, 1],
    ...STAGE_COUNTS.flatMap((count) => [1, count].map((m) => [count, m])),
  ]) {
    console.error(`${stages} stages, ${microBatches} steps at a time`)
    results.push(...(await measure(directory, shape, stages, microBatches, options)))
    busy.push(await busyCores())
  }
  const result = { benchmark: 'pipeline', machine: machine(), shape, ...options, busyCores: summary(busy), results }
  const rows = results.map(({ stages, microBatches, sequences, tokensPerSecond, utilization, ideal }) => [
    `${stages} stage${stages > 1 ? 's' : ''}, ${microBatches} step${microBatches > 1 ? 's' : ''} at a time`,
    `${sequences}`,
    tokensPerSecond.median.toFixed(1),
    percents(utilization),
    percents(ideal),
    `${(100 * Math.min(...utilization.map((part, i) => part / ideal[i]))).toFixed(0)} %`,
  ])
  console.log(
    `${circumstances(result)}\n\n` +
      table([['', 'sequences', 'tokens/s', 'stages busy, %', 'at best, %', 'least share'], ...rows]),
  )
  writeResult(result)
}
