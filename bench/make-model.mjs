/**
 * Writes a model of random weights for benchmarks: a checkpoint directory and, with --gguf, a GGUF file of the same shape for
 * llama.cpp. --shape names the shape to start from.
 *
 *     node bench/make-model.mjs --out ./models --layers 2 --hidden 512 --gguf
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { LINEAR_FORMATS } from './lib/linear-formats.mjs'
import { writeCheckpoint } from './lib/random-checkpoint.mjs'
import { writeTokenizer } from './lib/random-vocabulary.mjs'
import { SHAPES } from './lib/shapes.mjs'
import { GGUF_LINEARS } from './peers/gguf-blocks.mjs'
import { writeModelGguf } from './peers/random-gguf.mjs'

/** Where benchmarks keep the models they make. */
export const defaultFolder = join(tmpdir(), 'billfish-bench')

/** A change of this file format makes a new name, so that an older cached model is not taken for the present one. */
const REVISION = 1

/** A name that tells the shape: qwen2-r1-h2048-l16-a16.4-i5632-v32000. */
export function shapeName(shape) {
  const { architecture, hidden, layers, heads, kvHeads, intermediate, vocab, experts } = shape
  const mlp = experts === undefined ? `i${intermediate}` : `i${experts}x${intermediate}`
  return `${architecture}-r${REVISION}-h${hidden}-l${layers}-a${heads}.${kvHeads}-${mlp}-v${vocab}`
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

/** The checkpoint of `shape` in `folder`, made if it is not there. Returns its directory. */
export function checkpointModel(folder, shape, shards = 1) {
  mkdirSync(folder, { recursive: true })
  const name = `${shapeName(shape)}-${LINEAR_FORMATS[shape.format].name}${shards > 1 ? `-${shards}shards` : ''}`
  return makeOnce(join(folder, name), (path) => writeCheckpoint(path, shape, shards))
}

/** The same checkpoint with a tokenizer, as servers need it: its files are links to the other's. */
export function checkpointWithTokenizer(folder, shape) {
  const bare = checkpointModel(folder, shape)
  return makeOnce(`${bare}-tokenizer`, (path) => {
    mkdirSync(path)
    for (const name of readdirSync(bare)) symlinkSync(join(bare, name), join(path, name))
    writeTokenizer(path, shape.vocab)
  })
}

/** The GGUF file of `shape` in `folder`, made if it is not there. Returns its path. */
export function ggufModel(folder, shape) {
  mkdirSync(folder, { recursive: true })
  const type = GGUF_LINEARS[shape.format].type.toLowerCase()
  return makeOnce(join(folder, `${shapeName(shape)}-${type}.gguf`), (path) => writeModelGguf(path, shape))
}

const options = {
  out: { type: 'string', default: defaultFolder },
  shape: { type: 'string', default: 'dense' },
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
    console.error(
      `${error.message}\nOptions are ${names.join(', ')}; numbers all of them, but for --out, --shape and --gguf.`,
    )
    process.exit(2)
  }
  for (const [name, text] of Object.entries(values)) {
    if (['out', 'shape', 'gguf'].includes(name) || /^[1-9]\d{0,8}$/.test(text)) continue
    console.error(`--${name} is '${text}', but must be a whole number of at least 1.`)
    process.exit(2)
  }
  if (SHAPES[values.shape] === undefined) {
    console.error(`--shape is '${values.shape}', but must be one of ${Object.keys(SHAPES).join(', ')}.`)
    process.exit(2)
  }
  const shape = { ...SHAPES[values.shape] }
  for (const name of ['hidden', 'layers', 'heads', 'kv-heads', 'intermediate', 'vocab']) {
    if (values[name] !== undefined) shape[name === 'kv-heads' ? 'kvHeads' : name] = Number(values[name])
  }
  console.log(checkpointModel(values.out, shape, Number(values.shards)))
  if (values.gguf) {
    const path = ggufModel(values.out, shape)
    console.log(`${path} (${statSync(path).size} bytes)`)
  }
}
