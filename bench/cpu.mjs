/**
 * `npm run bench -- cpu`: billfish beside llama.cpp on this machine's processor, with the same random weights, in one
 * run. The two live in processes of their own and are measured in turn, a few rounds, so that what disturbs the machine
 * disturbs both.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { choice, count, readArguments } from './lib/command-line.mjs'
import { busyCores, copyMilliseconds, machine, ReadBandwidth, repository, warm } from './lib/machine.mjs'
import { MeasuredProcess } from './lib/measured-process.mjs'
import { checkpointBytesPerToken } from './lib/random-checkpoint.mjs'
import { weightsPerPromptToken } from './lib/random-model.mjs'
import { cpuReport, summary, wasQuiet, writeResult } from './lib/report.mjs'
import { SHAPES, stateBytesPerToken } from './lib/shapes.mjs'
import { checkpointModel, defaultFolder, ggufModel } from './make-model.mjs'
import { IkLlamaBench } from './peers/ik-llama.mjs'
import { computesTheSame, ggufBytesPerToken } from './peers/random-gguf.mjs'

const PROMPT_TOKENS = 512
const SHORT_PROMPT = 16
const DECODE_TOKENS = 128
const CONTEXT_SIZE = 1024
// Of decoding, beside the memory's bandwidth: tokens of a slice, slices of a round, and the most that a steady bandwidth
// differs before and after one.
const SLICE_TOKENS = 16
const SLICES = 8
const STEADY = 1.1

const usage = `npm run bench -- cpu [options]
  --shape <name>  ${Object.keys(SHAPES).join(', ')} (dense)
  --rounds <n>    measurements of each kind (5)
  --loads <n>     times each model is loaded, each in a fresh process (3)
  --layers <n>    decoder layers, fewer for a quick look (the shape's)
  --dtype <type>  billfish's dtype (auto)
  --models <dir>  where the models are made and kept (${defaultFolder})
  --alone         leave llama.cpp out
  --ik-llama-bench <path>  measure ik_llama.cpp, too, by the llama-bench that you have built of it`

/** Token ids without a pattern that a cache or predictor could use. */
const tokenIds = (count, vocab) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919) % (vocab - 300)))

/** Installs node-llama-cpp on first use, in a folder of its own: billfish does not depend on it. */
function installPeers() {
  const folder = join(repository, 'bench/peers')
  if (existsSync(join(folder, 'node_modules/node-llama-cpp'))) return
  console.error('installing node-llama-cpp (its CPU prebuilt alone) into bench/peers ...')
  execFileSync('npm', ['ci', '--ignore-scripts', '--omit=optional'], { cwd: folder, stdio: ['ignore', 2, 2] })
}

/** The two programs: how each is started and loaded, what files it reads, what a decoded token costs it. */
function contestants(options, shape) {
  const directory = checkpointModel(options.models, shape)
  const weights = readdirSync(directory).filter((name) => name.endsWith('.safetensors'))
  const billfish = {
    name: 'billfish',
    module: join(import.meta.dirname, 'lib/billfish-process.mjs'),
    load: { path: directory, contextSize: CONTEXT_SIZE, dtype: options.dtype, deviceMap: 'cpu' },
    files: weights.map((name) => join(directory, name)),
    bytesPerToken: checkpointBytesPerToken(shape) + stateBytesPerToken(shape),
    weightsPerPromptToken: weightsPerPromptToken(shape, true),
    settings: { prefill: {}, decode: {} },
  }
  if (options.alone) return [billfish]
  installPeers()
  const file = ggufModel(options.models, shape)
  const llama = {
    name: 'llama.cpp',
    module: join(import.meta.dirname, 'peers/llama.mjs'),
    load: { path: file },
    files: [file],
    bytesPerToken: ggufBytesPerToken(shape) + stateBytesPerToken(shape),
    weightsPerPromptToken: weightsPerPromptToken(shape, shape.deltaNet === undefined), // its qwen35 keeps all rows
    settings: { prefill: {}, decode: {} },
  }
  return [billfish, llama]
}

const start = ({ module }) => new MeasuredProcess(module, { BENCH_THREADS: String(availableParallelism()) })

/** Load times in fresh processes with the files in the page cache, each beside a copy of the same files. */
async function measureLoading(program, options) {
  for (const file of program.files) warm(file)
  const loads = []
  const copies = []
  let memory
  for (let i = 0; i < options.loads; i++) {
    copies.push(copyMilliseconds(program.files, join(options.models, `copy-${process.pid}`)))
    const child = start(program)
    loads.push((await child.request('load', program.load)).milliseconds)
    memory = await child.request('memory')
    await child.close()
  }
  const fileBytes = program.files.reduce((sum, file) => sum + statSync(file).size, 0)
  return { fileBytes, loadMilliseconds: summary(loads), copyMilliseconds: summary(copies), memoryAfterLoad: memory }
}

/** llama.cpp's faster setting of flash attention for each measurement: two tries of both, after a warm-up. */
async function chooseFlashAttention(program, requests) {
  for (const [method, options] of Object.entries(requests)) {
    let best = 0
    for (const flashAttention of [false, true]) {
      await program.child.request(method, { ...options, flashAttention })
      for (let i = 0; i < 2; i++) {
        const { tokensPerSecond } = await program.child.request(method, { ...options, flashAttention })
        if (tokensPerSecond <= best) continue
        best = tokensPerSecond
        program.settings[method] = { flashAttention }
      }
    }
  }
}

/**
 * Decoding in slices, the memory's read bandwidth measured between them: on a shared machine it moves from one second to
 * the next, so that only measurements side by side compare. GB/s of each slice, and of the memory before and after.
 */
async function measureSlices(program, request, bandwidth) {
  const slices = []
  let before = await bandwidth.read()
  for (let i = 0; i < SLICES; i++) {
    const options = { ...request, tokens: SLICE_TOKENS, ...program.settings.decode }
    const { tokensPerSecond } = await program.child.request('decode', options)
    const after = await bandwidth.read()
    slices.push({ before, decode: (tokensPerSecond * program.bytesPerToken) / 1e9, after })
    before = after
  }
  return slices
}

/** The share of the read bandwidth at which decoding read, over the slices before and after which the memory was alike. */
function shareOfBandwidth(slices) {
  const steady = slices.filter(({ before, after }) => Math.max(before, after) <= STEADY * Math.min(before, after))
  const shares = (steady.length > 0 ? steady : slices).map((slice) => (2 * slice.decode) / (slice.before + slice.after))
  return { ...summary(shares), slices: slices.length, steadySlices: steady.length }
}

/** Speeds of all programs, loaded at once and measured in turn; the order changes from round to round. */
async function measureSpeeds(programs, ik, requests, rounds, bandwidth) {
  const answers = new Map(programs.map((program) => [program, { prefill: [], decode: [], slices: [] }]))
  const ikRates = { prefill: [], decode: [] }
  const busy = []
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? programs : [...programs].reverse()
    busy.push(await busyCores())
    for (const [method, options] of Object.entries(requests)) {
      for (const program of order) {
        const answer = await program.child.request(method, { ...options, ...program.settings[method] })
        answers.get(program)[method].push(answer)
      }
      if (ik) ikRates[method].push(ik.measure(method))
    }
    for (const program of order) {
      answers.get(program).slices.push(...(await measureSlices(program, requests.decode, bandwidth)))
    }
    console.error(`round ${round + 1} of ${rounds}`)
  }
  const bandwidths = [...answers.values()].flatMap(({ slices }) => slices.map(({ before }) => before))
  return { answers, ikRates, readBandwidth: summary(bandwidths), busyCores: summary(busy) }
}

/** How many tokens two greedy runs share from the start. */
function commonPrefix(a, b) {
  const different = a.findIndex((token, i) => token !== b[i])
  return different === -1 ? a.length : different
}

/** Runs the benchmark, prints its table and writes bench/results/<date>-<processor>-cpu.json. */
export async function run(args) {
  const options = readArguments(usage, args, {
    rounds: count(5),
    loads: count(3),
    shape: choice('dense', Object.keys(SHAPES)),
    layers: count(0, 0),
    dtype: choice('auto', ['auto', 'float32', 'float16', 'bfloat16']),
    models: { type: 'string', default: defaultFolder },
    alone: { type: 'boolean', default: false },
    'ik-llama-bench': { type: 'string' },
  })
  if (options === undefined) return
  const whole = SHAPES[options.shape]
  const shape = { ...whole, layers: options.layers || whole.layers }
  const programs = contestants(options, shape)
  const [billfish, llama] = programs
  const tokens = { prefill: PROMPT_TOKENS, prompt: SHORT_PROMPT, decode: DECODE_TOKENS }
  const ikProgram = options['ik-llama-bench']
  const ik = ikProgram && new IkLlamaBench(ikProgram, ggufModel(options.models, shape), tokens, availableParallelism())
  ik?.chooseSettings() // first of all: a program that does not run should say so at once
  const bandwidth = new ReadBandwidth()
  const requests = {
    prefill: { ids: tokenIds(PROMPT_TOKENS, shape.vocab), contextSize: CONTEXT_SIZE },
    decode: { ids: tokenIds(SHORT_PROMPT, shape.vocab), tokens: DECODE_TOKENS, contextSize: CONTEXT_SIZE },
  }
  try {
    for (const program of programs) program.loading = await measureLoading(program, options)
    for (const program of programs) {
      program.child = start(program)
      program.loaded = await program.child.request('load', program.load)
    }
    for (const [method, request] of Object.entries(requests)) await billfish.child.request(method, request) // warm-up
    if (llama) await chooseFlashAttention(llama, requests)
    const { answers, ikRates, ...surroundings } = await measureSpeeds(programs, ik, requests, options.rounds, bandwidth)
    const result = {
      benchmark: options.shape === 'dense' ? 'cpu' : `cpu-${options.shape}`,
      machine: machine(),
      shape,
      tokens,
      rounds: options.rounds,
      dtype: options.dtype,
      ...surroundings,
      quiet: wasQuiet(surroundings),
      programs: [],
    }
    for (const program of programs) {
      const { prefill, decode, slices } = answers.get(program)
      const rates = (list) => summary(list.map(({ tokensPerSecond }) => tokensPerSecond))
      const overheads = decode.map((answer) => answer.overheadMillisecondsPerToken)
      result.programs.push({
        name: program.name,
        version: program.loaded.version,
        settings: program.settings,
        prefill: rates(prefill),
        decode: rates(decode),
        bytesPerToken: program.bytesPerToken,
        decodeOfBandwidth: shareOfBandwidth(slices),
        weightsPerPromptToken: program.weightsPerPromptToken,
        ...(program === llama ? { overheadMillisecondsPerToken: summary(overheads).median } : {}),
        loading: program.loading,
        memoryOfModel: program.loaded.memory,
        eventLoop: await program.child.request('delays', {
          method: 'decode',
          options: { ...requests.decode, ...program.settings.decode },
        }),
        memory: await program.child.request('memory'),
      })
    }
    if (llama && computesTheSame(shape)) {
      const generated = (program) => answers.get(program).decode[0].generated
      result.commonGreedyTokens = commonPrefix(generated(billfish), generated(llama))
    }
    if (ik) {
      const { version, settings } = ik
      result.ikLlama = { version, settings, prefill: summary(ikRates.prefill), decode: summary(ikRates.decode) }
    }
    console.log(cpuReport(result))
    if (shape.layers === whole.layers && !options.alone) writeResult(result)
    else console.log('\nnot kept: a quick look, not the whole benchmark')
    await billfish.child.request('dispose')
  } finally {
    bandwidth.close()
    for (const program of programs) await program.child?.close()
  }
}
