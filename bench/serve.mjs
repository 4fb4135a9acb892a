/**
 * `npm run bench -- serve`: `billfish serve` beside llama.cpp's `llama-server` on the same random weights, in one run. Both
 * stay loaded and take turns in every round; the clients are a process of their own that knows nothing of either.
 */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { choice, count, readArguments, UsageError } from './lib/command-line.mjs'
import { busyCores, machine } from './lib/machine.mjs'
import { MeasuredProcess } from './lib/measured-process.mjs'
import { summary, wasQuiet, writeResult } from './lib/report.mjs'
import { serveReport } from './lib/serve-report.mjs'
import { BillfishServer, freePort, LlamaServer } from './lib/served-program.mjs'
import { SHAPES } from './lib/shapes.mjs'
import { checkpointWithTokenizer, defaultFolder, ggufModel } from './make-model.mjs'

/** Of the requests a second that the slower program completes with the most clients, how many come in the open loop. */
const OPEN_SHARE = 0.7

const usage = `npm run bench -- serve [options]
  --llama-server <path>  measure llama.cpp, too, by the llama-server that you have built of it
  --shape <name>   ${Object.keys(SHAPES).join(', ')} (dense)
  --layers <n>     decoder layers, fewer for a quick look (the shape's)
  --lengths <list> tokens of prompt and answer (512/128,2048/256)
  --clients <list> clients at the same time in the closed loop (1,4,16,64)
  --seconds <n>    of each measurement (60)
  --rounds <n>     measurements of each kind (3)
  --models <dir>   where the models are made and kept (${defaultFolder})`

/** `512/128,2048/256` @throws UsageError */
function readLengths(text) {
  return text.split(',').map((length) => {
    const [, prompt, tokens] = /^([1-9]\d{0,5})\/([1-9]\d{0,5})$/.exec(length) ?? []
    if (prompt !== undefined) return { prompt: Number(prompt), tokens: Number(tokens) }
    throw new UsageError(`--lengths has '${length}', but must look like 512/128,2048/256.`)
  })
}

/** `1,4,16,64` @throws UsageError */
function readClients(text) {
  const clients = text.split(',')
  const wrong = clients.find((number) => !/^[1-9]\d{0,3}$/.test(number))
  if (wrong !== undefined) throw new UsageError(`--clients has '${wrong}', but must be whole numbers: 1,4,16,64.`)
  return clients.map(Number).sort((a, b) => a - b)
}

/** The closed loops: every length with every number of clients, and shared beginnings with the most. */
function closedLoops(lengths, clients) {
  const alone = lengths.flatMap(({ prompt, tokens }) =>
    clients.map((number) => ({ loop: 'closed', prompt, tokens, shared: 0, clients: number })),
  )
  const shared = lengths.map(({ prompt, tokens }) => ({
    ...{ loop: 'closed', prompt, tokens, clients: clients.at(-1) },
    shared: prompt - (prompt >> 3), // a long system prompt, and a question of an eighth
  }))
  return [...alone, ...shared]
}

/** One measurement: what the clients saw, and of billfish how busy its JavaScript was. */
async function measure(generator, program, workload, { seconds, vocab, seed }) {
  const { loop, clients, rate, prompt, tokens, shared } = workload
  const isOwn = program instanceof BillfishServer
  if (isOwn) await program.eventLoopLag() // from now on
  const before = isOwn ? program.mainThreadSeconds() : 0
  const work = { prompt, tokens, shared, vocab, seed }
  const seen = await generator.request(loop, { url: program.url, seconds, clients, rate, work })
  if (!isOwn) return seen
  const javascript = program.mainThreadSeconds() - before
  const eventLoopLag = await program.eventLoopLag()
  return {
    ...seen,
    javascriptShare: javascript / seen.seconds,
    javascriptMillisecondsPerToken: (javascript / seen.tokens) * 1000,
    eventLoopLag,
  }
}

/** The medians of some rounds. */
function medians(runs) {
  const of = (read) => summary(runs.map(read))
  const own = runs[0].javascriptShare !== undefined && {
    javascriptShare: of((run) => run.javascriptShare),
    javascriptMillisecondsPerToken: of((run) => run.javascriptMillisecondsPerToken),
    eventLoopLag: of((run) => run.eventLoopLag),
  }
  return {
    requests: of((run) => run.requests),
    tokensPerSecond: of((run) => run.tokensPerSecond),
    firstTokenP50: of((run) => run.firstToken.p50),
    firstTokenP99: of((run) => run.firstToken.p99),
    nextTokenP50: of((run) => run.nextToken.p50),
    nextTokenP99: of((run) => run.nextToken.p99),
    ...own,
  }
}

/** All programs on all workloads, round by round, in an order that changes. */
async function measureAll(generator, programs, workloads, { rounds, seconds, vocab, name }, busy) {
  const runs = workloads.map(() => programs.map(() => []))
  for (let round = 0; round < rounds; round++) {
    busy.push(await busyCores())
    for (const [index, workload] of workloads.entries()) {
      const order = [...programs.keys()]
      if ((round + index) % 2 === 1) order.reverse()
      const seed = `${name}-${round}-${index}` // new prompts, so that no cache has them
      for (const at of order) {
        runs[index][at].push(await measure(generator, programs[at], workload, { seconds, vocab, seed }))
      }
    }
    console.error(`${name} loops, round ${round + 1} of ${rounds}`)
  }
  return workloads.map((workload, index) => ({ ...workload, programs: runs[index].map(medians) }))
}

/** The open loops: requests that come at a rate that both programs can bear. */
function openLoops(measurements, mostClients) {
  return measurements
    .filter(({ clients, shared }) => clients === mostClients && shared === 0)
    .map(({ prompt, tokens, programs }) => {
      const slowest = Math.min(...programs.map(({ tokensPerSecond }) => tokensPerSecond.median))
      return { loop: 'open', prompt, tokens, shared: 0, rate: (OPEN_SHARE * slowest) / tokens }
    })
}

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-serve.json. */
export async function run(args) {
  const values = readArguments(usage, args, {
    'llama-server': { type: 'string' },
    shape: choice('dense', Object.keys(SHAPES)),
    layers: count(0, 0),
    lengths: { type: 'string', default: '512/128,2048/256' },
    clients: { type: 'string', default: '1,4,16,64' },
    seconds: count(60),
    rounds: count(3),
    models: { type: 'string', default: defaultFolder },
  })
  if (values === undefined) return
  const { seconds, rounds } = values
  const lengths = readLengths(values.lengths)
  const clients = readClients(values.clients)
  const whole = SHAPES[values.shape]
  const shape = { ...whole, layers: values.layers || whole.layers }
  const length = Math.max(...lengths.map(({ prompt, tokens }) => prompt + tokens))
  if (length > shape.maxPositions) {
    throw new UsageError(`--lengths: ${length} tokens are more than the model's ${shape.maxPositions} positions.`)
  }
  const sizes = { clients: clients.at(-1), length, threads: availableParallelism() }
  const program = values['llama-server']
  const directory = checkpointWithTokenizer(values.models, shape)
  const file = program && ggufModel(values.models, shape)
  const programs = [new BillfishServer(directory, sizes)]
  const generator = new MeasuredProcess(join(import.meta.dirname, 'lib/load-process.mjs'), {})
  try {
    if (program) programs.push(new LlamaServer(program, file, await freePort(), sizes))
    for (const served of programs) {
      await served.ready()
      const work = { prompt: 16, tokens: 8, shared: 0, vocab: shape.vocab, seed: 'warm-up' }
      await generator.request('warmUp', { url: served.url, work })
    }
    const busy = []
    const settings = { rounds, seconds, vocab: shape.vocab }
    const closed = await measureAll(
      generator,
      programs,
      closedLoops(lengths, clients),
      { ...settings, name: 'closed' },
      busy,
    )
    const arrivals = openLoops(closed, clients.at(-1))
    const open = await measureAll(generator, programs, arrivals, { ...settings, name: 'open' }, busy)
    const surroundings = { busyCores: summary(busy) }
    const result = {
      benchmark: 'serve',
      machine: machine(),
      shape,
      ...settings,
      ...surroundings,
      quiet: wasQuiet(surroundings),
      programs: programs.map(({ name }) => name),
      measurements: [...closed, ...open],
    }
    console.log(serveReport(result))
    if (shape.layers === whole.layers && program) writeResult(result)
    else console.log('\nnot kept: a quick look, not the whole benchmark')
  } finally {
    await generator.close()
    for (const served of programs) await served.close()
  }
}
