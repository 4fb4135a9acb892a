/**
 * Opens damaged checkpoints and asks for every weight in them. Whatever the damage: either a weight comes out whose bytes
 * lie where they are said to, or a BillfishError; nothing else is thrown, nothing takes long.
 */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mutateBytes, mutateJson, mutateSafetensors } from './mutations.mjs'
import { Random } from './random.mjs'

const MAX_MILLISECONDS = 5000
const ELEMENT_BYTES = { F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8, U8: 1, I8: 1 }

/** The files of every model in the folder that belong to the checkpoint. */
function readModels(folder) {
  return readdirSync(folder).map((name) => {
    const files = readdirSync(join(folder, name)).filter((file) => !file.startsWith('golden'))
    return {
      name,
      folder: join(folder, name),
      contents: new Map(files.map((file) => [file, readFileSync(join(folder, name, file))])),
    }
  })
}

function mutateFile(file, bytes, random) {
  if (file.endsWith('.safetensors')) return mutateSafetensors(bytes, random)
  if (random.chance(0.2)) return mutateBytes(bytes, bytes.length, random)
  const { text, done } = mutateJson(bytes.toString('utf8'), random)
  return { bytes: Buffer.from(text), done }
}

/** Writes a file whose data nobody reads: its beginning, where the headers are, and then a hole up to its length. */
function writeSparsely(path, bytes) {
  writeFileSync(path, bytes.subarray(0, 1 << 17))
  truncateSync(path, bytes.length)
}

/** Writes the model with some damage into `directory`; untouched files are links. Returns what was done. */
function writeDamaged(model, directory, random, write) {
  const files = [...model.contents.keys()]
  const damaged = new Map()
  const done = []
  for (let count = random.pick([1, 1, 1, 2]); count > 0; count--) {
    const file = random.pick(files)
    const bytes = model.contents.get(file)
    const kind = random.below(40)
    if (kind === 0) damaged.set(file, 'missing')
    else if (kind === 1) damaged.set(file, 'directory')
    else if (kind === 2) damaged.set(file, model.contents.get(random.pick(files)))
    else {
      const mutation = mutateFile(file, bytes, random)
      damaged.set(file, mutation.bytes)
      done.push(`${file}: ${mutation.done.join(', ')}`)
      continue
    }
    done.push(`${file}: ${kind === 2 ? 'another file' : damaged.get(file)}`)
  }
  for (const file of files) {
    const content = damaged.get(file)
    if (content === undefined) symlinkSync(join(model.folder, file), join(directory, file))
    else if (content === 'directory') mkdirSync(join(directory, file))
    else if (content !== 'missing') write(join(directory, file), content)
  }
  return done
}

/** Every weight that the tensors look like, with shapes from the packed tensors and from those beside them. */
function requestsOf(checkpoint) {
  const requests = []
  for (const { name, shape } of checkpoint.tensors.values()) {
    const module = name.slice(0, Math.max(0, name.lastIndexOf('.')))
    const [rows = 0, columns = 0] = shape
    if (name.endsWith('.qweight')) {
      const out = checkpoint.tensors.get(`${module}.scales`)?.shape[1] ?? columns
      for (const factor of [1, 4, 8]) requests.push(() => checkpoint.linear(module, out, rows * factor, 'none'))
    } else if (name.endsWith('.weight_packed')) {
      for (const factor of [4, 8]) requests.push(() => checkpoint.linear(module, rows, columns * factor, 'none'))
    } else if (shape.length === 2 && name.endsWith('.weight')) {
      requests.push(() => checkpoint.linear(module, rows, columns, 'optional'))
      requests.push(() => checkpoint.table(name, rows, columns))
    } else if (shape.length === 1) {
      requests.push(() => checkpoint.vector(name, rows))
    }
  }
  return requests
}

function checkSpec(spec, fileBytes) {
  for (const tensor of Object.values(spec)) {
    if (typeof tensor !== 'object' || tensor === null) continue
    const size = tensor.shape.reduce((product, dimension) => product * dimension, ELEMENT_BYTES[tensor.dtype])
    const inFile = tensor.offset >= 8 && tensor.offset + tensor.bytes <= fileBytes[tensor.file]
    if (size !== tensor.bytes || !inFile) throw new Error(`a tensor that lies came out: ${JSON.stringify(tensor)}`)
  }
}

/** The result of `attempt`, or undefined where it throws a BillfishError. */
async function tolerate(attempt) {
  try {
    return await attempt()
  } catch (error) {
    if (
      error?.name === 'BillfishError' &&
      /^(INVALID_CHECKPOINT|UNSUPPORTED_MODEL)$/.test(error.code) &&
      error.message.length < 4000
    )
      return undefined
    throw error
  }
}

async function runCase(directory, { openCheckpoint, load }) {
  const checkpoint = await tolerate(() => openCheckpoint(directory))
  if (checkpoint !== undefined) {
    const fileBytes = checkpoint.files.map((file) => statSync(file).size)
    for (const request of requestsOf(checkpoint)) {
      const spec = await tolerate(request)
      if (spec !== undefined) checkSpec(spec, fileBytes)
    }
  }
  if (load !== undefined) await load(directory)
  return checkpoint !== undefined
}

/**
 * @param options.models - folder with one checkpoint directory a model
 * @param options.openCheckpoint - as src/checkpoint/checkpoint exports it
 * @param options.load - called with every damaged directory; must settle, and throw only what is a failure
 * @param options.seed - with a case's number, makes the case
 * @param options.first - number of the first case
 * @param options.more - told the number of cases done; cases go on while it says true
 * @returns how many cases ran and in how many of them the checkpoint still opened
 * @throws an Error that tells how to run the failing case again
 */
export async function fuzzCheckpoints({ models: folder, openCheckpoint, load, seed, first = 0, more }) {
  const models = readModels(folder)
  let cases = 0
  let opened = 0
  while (more(cases)) {
    const number = first + cases
    const random = new Random(Math.imul(seed, 0x9e3779b1) ^ number)
    const model = random.pick(models)
    const directory = mkdtempSync(join(tmpdir(), 'billfish-fuzz-'))
    const done = writeDamaged(model, directory, random, load === undefined ? writeSparsely : writeFileSync)
    const start = performance.now()
    try {
      if (await runCase(directory, { openCheckpoint, load })) opened++
      const milliseconds = performance.now() - start
      if (milliseconds > MAX_MILLISECONDS) throw new Error(`it took ${Math.round(milliseconds)} ms`)
    } catch (error) {
      const what = `Case ${number} with seed ${seed} (${model.name}; ${done.join('; ')}) failed, its files are in ${directory}`
      throw new Error(`${what}: ${String(error?.stack ?? error).slice(0, 2000)}`, { cause: error })
    }
    rmSync(directory, { recursive: true })
    cases++
  }
  return { cases, opened }
}
