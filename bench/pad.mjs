/**
 * `npm run bench -- pad`: what padding costs beside copying the same files, with decoder layers of Qwen2-72B's shapes
 * (hidden 8192, intermediate 29568) and random numbers, in bf16 and in GPTQ int4, and with the demo model; and what is left
 * of it when it is killed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { count, readArguments, UsageError, words } from './lib/command-line.mjs'
import { busyCores, machine, repository } from './lib/machine.mjs'
import { writeBf16Layers, writeGptqLayers, writeHollowModel } from './lib/pad-checkpoints.mjs'
import { pad, padAndKill } from './lib/padding-process.mjs'
import { summary, table } from './lib/report.mjs'

const usage = `npm run bench -- pad [options]
  --formats <list>  some of bf16, gptq and demo (bf16,gptq,demo)
  --layers <n>      decoder layers, each a file of 1.8 GB in bf16; in int4, 0.5 GB each, three times as many (2)
  --rounds <n>      measurements of each kind; medians are shown (3)
  --kills <n>       runs that are killed at a random moment, each going on where the one before was (4)
  --interleave      zero channels between the first ones instead of behind all; not in gptq
  --folder <dir>    where the checkpoint is made, copied and padded: three times its size (${tmpdir()})
  --json <file>     write what was measured there`

/** How a format's checkpoint is made, or where it is; and the ranks that it is padded for. */
const formats = {
  bf16: { make: writeBf16Layers, layers: 1, parallelSizes: [2, 4, 8], isHuge: true },
  gptq: { make: writeGptqLayers, layers: 3, parallelSizes: [2, 4, 8], isHuge: true },
  demo: { directory: join(repository, 'examples', 'demo-model'), parallelSizes: [2, 4] },
}

function timed(command, ...rest) {
  const begin = performance.now()
  const { status, stderr } = spawnSync(command, rest, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${rest.join(' ')}: ${stderr}`)
  return (performance.now() - begin) / 1000
}

/** Copies and pads in turn. The last padded copy stays at `target`. */
function measure(source, target, options, rounds) {
  const samples = { copied: [], synced: [], padded: [], paddedCpu: [], verified: [], verifiedCpu: [], peak: [] }
  let result
  for (let round = 0; round < rounds; round++) {
    rmSync(target, { recursive: true, force: true })
    timed('sync', '-f', join(target, '..'))
    samples.copied.push(timed('cp', '-r', '--reflink=never', source, target))
    samples.synced.push(samples.copied.at(-1) + timed('sync', '-f', target))
    rmSync(target, { recursive: true })
    timed('sync', '-f', join(target, '..'))
    const padded = pad(source, target, options)
    samples.padded.push(padded.writing)
    samples.paddedCpu.push(padded.writingCpu)
    samples.verified.push(padded.verifying)
    samples.verifiedCpu.push(padded.verifyingCpu)
    samples.peak.push(padded.peakBytes)
    result = padded.result
  }
  return { result, ...Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, summary(values)])) }
}

/** Nothing may have the output's name, and what there is may not open. */
async function checkUnfinished(output) {
  const { loadModel } = createRequire(import.meta.url)(join(repository, 'dist', 'index.js'))
  if (existsSync(output)) throw new Error(`${output} is there, although it was not finished`)
  for (const directory of [`${output}.partial`, join(`${output}.partial`, 'checkpoint')]) {
    const answer = await loadModel(directory).catch((error) => error)
    if (answer.code !== 'INVALID_CHECKPOINT') throw new Error(`${directory} was taken for a checkpoint: ${answer}`)
  }
}

/** Kills run after run at a random moment, lets the last one finish, and compares it with `expected`. */
async function killed(source, output, expected, options, seconds, kills) {
  const moments = []
  for (let i = 0; i < kills; i++) {
    const moment = Math.random() * seconds
    const wasAtWork = await padAndKill(source, output, options, moment)
    moments.push(moment)
    if (!wasAtWork) {
      rmSync(output, { recursive: true }) // it was faster, so there is nothing to look at
      continue
    }
    await checkUnfinished(output)
  }
  const { result } = pad(source, output, options)
  timed('diff', '-r', expected, output)
  return { moments, reusedFiles: result.reusedFiles, files: result.files }
}

/** What planning takes for all 80 layers: no file is read but for its header, and none is written. */
function planned(folder, format, options) {
  const directory = join(folder, 'hollow')
  writeHollowModel(directory, format)
  const { writing: seconds, peakBytes, result } = pad(directory, join(folder, 'nothing'), { ...options, dryRun: true })
  rmSync(directory, { recursive: true })
  return { seconds, peakBytes, bytes: result.bytes, paddedTensors: result.paddedTensors }
}

const seconds = (value) => `${value.toFixed(2)} s`
const gigabytes = (bytes) => `${(bytes / 1e9).toPrecision(3)} GB`

function row(format, { result, copied, synced, padded, paddedCpu, verified, verifiedCpu, peak }) {
  return [
    format,
    gigabytes(result.bytes),
    seconds(copied.median),
    seconds(synced.median),
    seconds(padded.median),
    (padded.median / synced.median).toFixed(2),
    seconds(paddedCpu.median),
    seconds(verified.median),
    seconds(verifiedCpu.median),
    `${(peak.max / 1e6).toFixed(0)} MB`,
  ]
}

function sentences(format, { result, verifiedCpu, killed, planned }) {
  const { size, paddedSize, layers, layerCount, verification } = result
  const perLayer = verifiedCpu.median / layerCount
  const lines = [
    `${format}: ${size} -> ${paddedSize} channels. Verified ${verification.layers} layers (${layers}), bit for bit; ` +
      `${perLayer.toFixed(2)} s of processor time a layer`,
  ]
  if (killed) {
    const moments = killed.moments.map((moment) => moment.toFixed(2)).join(', ')
    lines.push(
      `  Killed after ${moments} s: no output, and what there was would not load. The next run kept ${killed.reusedFiles} of ` +
        `${killed.files} files, and its output is the uninterrupted one's, byte for byte`,
    )
  }
  if (planned) {
    lines.push(
      `  All 80 layers, ${gigabytes(planned.bytes)}: a dry run takes ${seconds(planned.seconds)} and ` +
        `${(planned.peakBytes / 1e6).toFixed(0)} MB for ${planned.paddedTensors} tensors`,
    )
  }
  return lines
}

export async function run(argv) {
  const values = readArguments(usage, argv, {
    formats: words('bf16,gptq,demo', Object.keys(formats)),
    layers: count(2),
    rounds: count(3),
    kills: count(4, 0),
    interleave: { type: 'boolean', default: false },
    folder: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
  })
  if (values === undefined) return
  if (!existsSync(values.folder)) throw new UsageError(`--folder ${values.folder} does not exist.`)
  const heading = ['', 'files', 'cp', 'cp + sync', 'padding', 'ratio', 'cpu', 'verification', 'cpu', 'peak memory']
  const rows = [heading]
  const texts = []
  const report = { machine: machine(), busyCores: await busyCores(), formats: {} }
  for (const format of values.formats) {
    const { make, layers, directory, parallelSizes, isHuge } = formats[format]
    const options = { parallelSizes, placement: values.interleave ? 'interleaved' : 'tail' }
    const folder = mkdtempSync(join(values.folder, 'billfish-pad-'))
    const source = directory ?? join(folder, 'source')
    const target = join(folder, 'target')
    try {
      make?.(source, layers * values.layers)
      const all = measure(source, target, options, values.rounds)
      if (values.kills > 0) {
        const span = all.padded.median + all.verified.median
        all.killed = await killed(source, join(folder, 'killed'), target, options, span, values.kills)
      }
      if (isHuge) all.planned = planned(folder, format, options)
      report.formats[format] = all
      rows.push(row(format, all))
      texts.push(...sentences(format, all))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  const { processor, cores, commit } = report.machine
  console.log(`${table(rows)}\n\n${texts.join('\n')}\n`)
  console.log(
    `${processor}, ${cores} cores; other programs kept ${report.busyCores.toFixed(2)} of them busy before. Commit ${commit}.`,
  )
  if (values.json) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`)
}
