/**
 * `npm run bench -- pad`: what padding costs beside copying the same files, with decoder layers of Qwen2-72B's shapes
 * (hidden 8192, intermediate 29568) and random numbers, in bf16 and in GPTQ int4.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { busyCores, machine, repository } from './lib/machine.mjs'
import { qwen2Config, writeQwen2Gptq } from './lib/qwen2-gptq.mjs'
import { randomHalves } from './lib/random.mjs'
import { layerLinears } from './lib/random-qwen2.mjs'
import { writeSafetensors } from './lib/safetensors-writer.mjs'
import { summary, table } from './lib/statistics.mjs'

const shape = { hidden: 8192, heads: 64, kvHeads: 8, intermediate: 29568, vocab: 512, maxPositions: 32768 }

const usage = `npm run bench -- pad [options]
  --formats <list>  bf16, gptq or both (bf16,gptq)
  --layers <n>      decoder layers, each a file of 1.8 GB in bf16; in int4, 0.5 GB each, three times as many (2)
  --rounds <n>      measurements of each kind (3)
  --folder <dir>    where the checkpoint is made, copied and padded; the same again is needed twice (${tmpdir()})
  --json <file>     write what was measured there`

/** 16-bit layers, a file each; numbers repeat themselves, which neither copying nor padding looks at. */
function writeBf16(directory, layers) {
  mkdirSync(directory)
  const block = randomHalves('weights', 4 * 1024 * 1024, -6, true)
  const weightMap = {}
  for (let layer = 0; layer < layers; layer++) {
    const file = `model-${layer + 1}-of-${layers}.safetensors`
    const tensors = layerLinears(shape).map(([name, inputs, outputs]) => ({
      name: `model.layers.${layer}.${name}.weight`,
      dtype: 'BF16',
      shape: [outputs, inputs],
      data: () => {
        const data = new Uint16Array(inputs * outputs)
        for (let at = 0; at < data.length; at += block.length) data.set(block.subarray(0, data.length - at), at)
        return data
      },
    }))
    for (const { name } of tensors) weightMap[name] = file
    writeSafetensors(join(directory, file), tensors)
  }
  const index = { metadata: {}, weight_map: weightMap }
  writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify(index))
  writeFileSync(
    join(directory, 'config.json'),
    JSON.stringify({ ...qwen2Config({ ...shape, layers }), torch_dtype: 'bfloat16' }),
  )
}

const makers = {
  bf16: writeBf16,
  gptq: (directory, layers) => writeQwen2Gptq(directory, { ...shape, layers: 3 * layers }, 3 * layers),
}

function timed(command, ...rest) {
  const begin = performance.now()
  const { status, stderr } = spawnSync(command, rest, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${rest.join(' ')}: ${stderr}`)
  return (performance.now() - begin) / 1000
}

/** Pads in a process of its own. @returns seconds of writing and of verifying, and the largest resident set in bytes */
function pad(source, output) {
  const program = `
    const { padCheckpoint } = require(${JSON.stringify(join(repository, 'dist', 'index.js'))})
    const begin = performance.now()
    let written
    const onProgress = ({ phase }) => { if (phase === 'verifying') written ??= performance.now() }
    padCheckpoint(${JSON.stringify(source)}, ${JSON.stringify(output)}, { parallelSizes: [2, 4, 8], onProgress }).then((result) => {
      const [, peak] = /VmHWM:\\s+(\\d+) kB/.exec(require("node:fs").readFileSync("/proc/self/status", "utf8"))
      console.log(JSON.stringify({ writing: (written - begin) / 1000, verifying: (performance.now() - written) / 1000,
        peakBytes: peak * 1024, result }))
    })`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

export async function run(argv) {
  const { values } = parseArgs({
    args: argv,
    options: {
      formats: { type: 'string', default: 'bf16,gptq' },
      layers: { type: 'string', default: '2' },
      rounds: { type: 'string', default: '3' },
      folder: { type: 'string', default: tmpdir() },
      json: { type: 'string' },
      help: { type: 'boolean' },
    },
  })
  if (values.help) return console.log(usage)
  const rows = [['', 'files', 'copied', 'copied, on disk', 'padded, on disk', 'ratio', 'verified', 'peak memory']]
  const report = { machine: machine(), busyCores: await busyCores(), formats: {} }
  for (const format of values.formats.split(',')) {
    const folder = mkdtempSync(join(values.folder, 'billfish-pad-'))
    const [source, target] = [join(folder, 'source'), join(folder, 'target')]
    try {
      makers[format](source, Number(values.layers))
      const samples = { copied: [], synced: [], padded: [], verified: [], peak: [] }
      let result
      for (let round = 0; round < Number(values.rounds); round++) {
        timed('sync', '-f', folder)
        samples.copied.push(timed('cp', '-r', '--reflink=never', source, target))
        samples.synced.push(samples.copied.at(-1) + timed('sync', '-f', folder))
        rmSync(target, { recursive: true })
        timed('sync', '-f', folder)
        const padded = pad(source, target)
        rmSync(target, { recursive: true })
        samples.padded.push(padded.writing)
        samples.verified.push(padded.verifying)
        samples.peak.push(padded.peakBytes)
        result = padded.result
      }
      const all = Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, summary(values)]))
      report.formats[format] = { result, ...all }
      const seconds = ({ median }) => `${median.toFixed(2)} s`
      rows.push([
        format,
        `${(result.bytes / 1e9).toFixed(2)} GB`,
        seconds(all.copied),
        seconds(all.synced),
        seconds(all.padded),
        (all.padded.median / all.synced.median).toFixed(2),
        seconds(all.verified),
        `${(all.peak.max / 1e6).toFixed(0)} MB`,
      ])
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  console.log(`${table(rows)}\n\nOther programs kept ${report.busyCores.toFixed(2)} cores busy before.`)
  if (values.json) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`)
}
