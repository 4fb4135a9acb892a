/**
 * `npm run bench -- first-token`: how long a short request waits for its first token: chat template, tokenizer, prefill
 * and sampling. The first request after loading stands by itself. With `--against CLONE`, another built clone takes turns.
 */
import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { count, readArguments, UsageError } from './lib/command-line.mjs'
import { busyCores, commitOf, machine, repository } from './lib/machine.mjs'
import { MeasuredProcess } from './lib/measured-process.mjs'
import { circumstances, summary, table, writeResult } from './lib/report.mjs'

const demoModel = join(repository, 'examples/demo-model')
const KINDS = ['text', 'chat']

const USAGE = `npm run bench -- first-token [options]
  --model <dir>      the checkpoint (examples/demo-model)
  --calls <n>        requests of each kind in a process (200)
  --rounds <n>       processes of each clone, which take turns (5)
  --against <clone>  another clone of billfish, built, to compare with`

/** Loads the model in a process of its own and asks it for first tokens. */
async function measure(clone, { model, calls }) {
  const child = new MeasuredProcess(join(import.meta.dirname, 'lib/first-token-process.mjs'), { BILLFISH_CLONE: clone })
  try {
    const run = { load: await child.request('load', { path: model }) }
    for (const kind of KINDS) {
      const [first, ...later] = await child.request('firstTokens', { kind, calls: calls + 1, from: 0 })
      run[kind] = { first, median: summary(later).median, slowest: Math.max(...later) }
    }
    await child.request('dispose')
    return run
  } finally {
    await child.close()
  }
}

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-first-token.json. */
export async function run(args) {
  const values = readArguments(USAGE, args, {
    model: { type: 'string', default: demoModel },
    calls: count(200),
    rounds: count(5),
    against: { type: 'string' },
  })
  if (values === undefined) return
  if (values.against && !existsSync(join(values.against, 'dist', 'index.js'))) {
    throw new UsageError(`--against ${values.against}: no clone of billfish that is built (npm run setup) is there.`)
  }
  const options = { model: values.model, calls: values.calls, rounds: values.rounds }
  const clones = [repository, ...(values.against ? [resolve(values.against)] : [])].map((path) => ({
    name: `commit ${commitOf(path).slice(0, 10)}`,
    path,
    runs: [],
  }))
  const busy = [await busyCores()]
  for (let round = 0; round < options.rounds; round++) {
    for (const { path, runs } of round % 2 === 0 ? clones : [...clones].reverse())
      runs.push(await measure(path, options))
    busy.push(await busyCores())
  }
  const results = clones.map(({ name, runs }) => ({
    name,
    load: summary(runs.map(({ load }) => load)),
    ...Object.fromEntries(
      KINDS.map((kind) => [
        kind,
        Object.fromEntries(['first', 'median', 'slowest'].map((of) => [of, summary(runs.map((run) => run[kind][of]))])),
      ]),
    ),
  }))
  const settings = { ...options, model: basename(options.model), busyCores: summary(busy) }
  const result = { benchmark: 'first-token', machine: machine(), ...settings, results }
  const milliseconds = ({ min, median, max }) => `${median.toFixed(2)} (${min.toFixed(2)}..${max.toFixed(2)})`
  const rows = results.flatMap((clone) =>
    KINDS.map((kind) => [
      `${clone.name}, ${kind}`,
      ...['first', 'median', 'slowest'].map((of) => milliseconds(clone[kind][of])),
    ]),
  )
  console.log(
    `${circumstances(result)}\n` +
      `milliseconds to the first token: median (least..most) of ${options.rounds} processes\n\n` +
      table([['', 'first request', `median of ${options.calls}`, 'slowest'], ...rows]),
  )
  writeResult(result)
}
