/**
 * Writes a random Qwen2 model for benchmarks: a GPTQ checkpoint directory and, with --gguf, the same numbers as a GGUF
 * file for llama.cpp.
 *
 *     node bench/make-model.mjs --out ./models --layers 2 --hidden 512 --gguf
 */
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { writeQwen2Gptq } from './lib/qwen2-gptq.mjs'
import { DEFAULT_SHAPE } from './lib/random-qwen2.mjs'
import { writeQwen2Gguf } from './peers/qwen2-gguf.mjs'

/** Where benchmarks keep the models they make. */
export const defaultFolder = join(tmpdir(), 'billfish-bench')

/** A change of this file format makes a new name, so that an older cached model is not taken for the present one. */
const REVISION = 1

/** A name that tells the shape: h2048-l16-a16.4-i5632-v32000. */
export function shapeName(shape) {
  const { hidden, layers, heads, kvHeads, intermediate, vocab } = shape
  return `qwen2-r${REVISION}-h${hidden}-l${layers}-a${heads}.${kvHeads}-i${intermediate}-v${vocab}`
}

/** Makes `path` by `write(temporary path)` unless it exists; an interrupted write leaves nothing under the name. */
function makeOnce(path, write) {
  if (existsSync(path)) return path
  const unfinished = `${path}.${process.pid}.unfinished`
  try {
    write(unfinished)
    renameSync(unfinished, path)
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return path
}

/** The GPTQ checkpoint of `shape` in `folder`, made if it is not there. Returns its directory. */
export function gptqModel(folder, shape, shards = 1) {
  mkdirSync(folder, { recursive: true })
  const name = `${shapeName(shape)}-gptq-int4-g128${shards > 1 ? `-${shards}shards` : ''}`
  return makeOnce(join(folder, name), (path) => writeQwen2Gptq(path, shape, shards))
}

/** The GGUF file of `shape` in `folder`, made if it is not there. Returns its path. */
export function ggufModel(folder, shape) {
  mkdirSync(folder, { recursive: true })
  return makeOnce(join(folder, `${shapeName(shape)}-q4_0.gguf`), (path) => writeQwen2Gguf(path, shape))
}

const options = {
  out: { type: 'string', default: defaultFolder },
  hidden: { type: 'string' },
  layers: { type: 'string' },
  heads: { type: 'string' },
  'kv-heads': { type: 'string' },
  intermediate: { type: 'string' },
  vocab: { type: 'string' },
  shards: { type: 'string', default: '1' },
  gguf: { type: 'boolean', default: false },
}

if (process.argv[1] === import.meta.filename) {
  let values
  try {
    values = parseArgs({ options }).values
  } catch (error) {
    const names = Object.keys(options).map((name) => `--${name}`)
    console.error(`${error.message}\nOptions are ${names.join(', ')}; numbers all of them, but for --out and --gguf.`)
    process.exit(2)
  }
  for (const [name, text] of Object.entries(values)) {
    if (name === 'out' || name === 'gguf' || /^[1-9]\d{0,8}$/.test(text)) continue
    console.error(`--${name} is '${text}', but must be a whole number of at least 1.`)
    process.exit(2)
  }
  const shape = { ...DEFAULT_SHAPE }
  for (const name of ['hidden', 'layers', 'heads', 'kv-heads', 'intermediate', 'vocab']) {
    if (values[name] !== undefined) shape[name === 'kv-heads' ? 'kvHeads' : name] = Number(values[name])
  }
  console.log(gptqModel(values.out, shape, Number(values.shards)))
  if (values.gguf) {
    const path = ggufModel(values.out, shape)
    console.log(`${path} (${statSync(path).size} bytes)`)
  }
}
