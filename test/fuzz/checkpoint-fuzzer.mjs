/**
 * Opens damaged checkpoints and asks for every weight in them. Whatever the damage, the result is a weight whose bytes are
 * within its file, or a BillfishError. No other error is thrown, and no case takes long.
 */
import {
  existsSync,
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
import { join } from 'node:path'
import { kindOfRefusal, Outcomes, randomOf, Stopwatch, temporaryFolder } from './cases.mjs'
import { mutateBytes, mutateJson, mutateSafetensors } from './mutations.mjs'

const REFUSALS = ['INVALID_CHECKPOINT', 'UNSUPPORTED_MODEL']
const LOAD_REFUSALS = [...REFUSALS, 'OUT_OF_MEMORY', 'NON_FINITE']
const PLAN_OPTIONS = { deviceMap: 'cpu', maxModelLength: 64, maxSequences: 1 }
/** More than any of the models has. */
const VOCABULARY = 1024
const ELEMENT_BYTES = { F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8, U8: 1, I8: 1, F8_E4M3: 1, F8_E8M0: 1 }

/** The files of every model in the folder that belong to the checkpoint. */
function readModels(folder, more = new Map()) {
  return readdirSync(folder).map((name) => {
    const own = readdirSync(join(folder, name)).filter((file) => !file.startsWith('golden'))
    const contents = new Map(own.map((file) => [file, readFileSync(join(folder, name, file))]))
    for (const [file, text] of more) if (!contents.has(file)) contents.set(file, Buffer.from(text))
    return { name, folder: join(folder, name), contents }
  })
}

function mutateFile(file, bytes, random) {
  if (file.endsWith('.safetensors')) return mutateSafetensors(bytes, random)
  if (random.chance(0.2)) return mutateBytes(bytes, bytes.length, random)
  const { text, done } = mutateJson(bytes.toString('utf8'), random)
  return { bytes: Buffer.from(text), done }
}

/** Writes a file whose data is never read: the beginning with the headers, then a hole. */
function writeSparsely(path, bytes) {
  writeFileSync(path, bytes.subarray(0, 1 << 17))
  truncateSync(path, bytes.length)
}

/** A model's directory, in which a case replaces some files; untouched files are links. */
class Directory {
  #path
  #model
  #damaged = new Set()

  constructor(path, model) {
    this.#path = path
    this.#model = model
    mkdirSync(path)
    for (const file of model.contents.keys()) this.#link(file)
  }

  get path() {
    return this.#path
  }

  #link(file) {
    const source = join(this.#model.folder, file)
    if (existsSync(source)) symlinkSync(source, join(this.#path, file))
    else writeFileSync(join(this.#path, file), this.#model.contents.get(file))
  }

  /** Damages the files. Returns what was done. */
  damage(random, write) {
    const { contents } = this.#model
    const files = [...contents.keys()]
    const done = []
    for (let count = random.pick([1, 1, 1, 2]); count > 0; count--) {
      const file = random.pick(files)
      const path = join(this.#path, file)
      rmSync(path, { recursive: true, force: true })
      this.#damaged.add(file)
      const kind = random.below(40)
      if (kind === 0) done.push(`${file}: missing`)
      else if (kind === 1) {
        mkdirSync(path)
        done.push(`${file}: directory`)
      } else {
        const mutation =
          kind === 2
            ? { bytes: contents.get(random.pick(files)), done: ['another file'] }
            : mutateFile(file, contents.get(file), random)
        write(path, mutation.bytes)
        done.push(`${file}: ${mutation.done.join(', ')}`)
      }
    }
    return done.join('; ')
  }

  /** Puts back what has been damaged. */
  restore() {
    for (const file of this.#damaged) {
      rmSync(join(this.#path, file), { recursive: true, force: true })
      this.#link(file)
    }
    this.#damaged.clear()
  }
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
      for (const factor of [2, 4, 8]) requests.push(() => checkpoint.linear(module, rows, columns * factor, 'none'))
    } else if (shape.length === 2 && name.endsWith('.weight')) {
      for (const factor of [1, 2]) requests.push(() => checkpoint.linear(module, rows, columns * factor, 'optional'))
      requests.push(() => checkpoint.table(name, rows, columns))
    } else if (shape.length === 1) {
      requests.push(() => checkpoint.vector(name, [rows]))
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

/** The result of `attempt`, or undefined if it throws a BillfishError; `refused` is called with that error's kind. */
async function tolerate(attempt, refused = () => {}) {
  try {
    return await attempt()
  } catch (error) {
    refused(kindOfRefusal(error, REFUSALS))
    return undefined
  }
}

/** How far a checkpoint got, or why it was refused. */
async function runCase(directory, { openCheckpoint, planModel, loadGenerationAssets, load }) {
  let kind = ''
  const refused = (reason) => {
    kind = reason
  }
  const checkpoint = await tolerate(() => openCheckpoint(directory), refused)
  if (checkpoint !== undefined) {
    kind = 'opened'
    const fileBytes = checkpoint.files.map((file) => statSync(file).size)
    for (const request of requestsOf(checkpoint)) {
      const spec = await tolerate(request)
      if (spec !== undefined) checkSpec(spec, fileBytes)
    }
    const planned = await tolerate(() => planModel(directory, PLAN_OPTIONS), refused)
    if (planned !== undefined) {
      kind = 'planned'
      const assets = await tolerate(() => loadGenerationAssets(checkpoint, { vocabulary: VOCABULARY }), refused)
      if (assets !== undefined) kind = 'planned, with texts'
      await assets?.worker.close(new Error('the case is over'))
    }
  }
  if (load !== undefined) await load(directory)
  return kind
}

/**
 * A `load` for {@link fuzzCheckpoints}: loads a checkpoint and computes one step, whose results may be any numbers. Passes on
 * all errors but refusals of the checkpoint and of numbers that are not finite.
 * @param {typeof import('../../src/index').loadModel} loadModel
 * @returns {(directory: string) => Promise<void>}
 */
export function loadAndRun(loadModel) {
  return async (directory) => {
    try {
      const model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64, maxSequences: 1 })
      try {
        await model.forward([1, 2, 3])
      } finally {
        await model.dispose()
      }
    } catch (error) {
      if (error?.name !== 'BillfishError' || !LOAD_REFUSALS.includes(error.code)) throw error
    }
  }
}

/**
 * @param {object} options
 * @param {string} options.models folder with one checkpoint directory per model
 * @param {ReadonlyMap<string, string>} [options.files] added to every checkpoint that has no file of the same name
 * @param {typeof import('../../src/open-checkpoint').openCheckpoint} options.openCheckpoint
 * @param {typeof import('../../src/index').planModel} options.planModel
 * @param {typeof import('../../src/generation/assets').loadGenerationAssets} options.loadGenerationAssets
 * @param {(directory: string) => Promise<void>} [options.load] called with every damaged directory; what it throws is a failure
 * @param {number} options.seed
 * @param {number} [options.first] number of the first case
 * @param {(done: number) => boolean} options.more whether to run another case after `done` cases
 * @returns {Promise<Outcomes>} kinds are `opened`, `planned`, ..., and those of refusals
 * @throws {Error} that tells how to run the failing case again
 */
export async function fuzzCheckpoints({ models: folder, files, seed, first = 0, more, ...subject }) {
  const models = readModels(folder, files)
  const parent = mkdtempSync(join(temporaryFolder, 'billfish-fuzz-'))
  const directories = new Map(models.map((model) => [model, new Directory(join(parent, model.name), model)]))
  const write = subject.load === undefined ? writeSparsely : writeFileSync
  const outcomes = new Outcomes()
  for (let number = first; more(number - first); number++) {
    const random = randomOf(seed, number)
    const model = random.pick(models)
    const directory = directories.get(model)
    const done = directory.damage(random, write)
    const watch = new Stopwatch()
    try {
      const kind = await runCase(directory.path, subject)
      const milliseconds = watch.read()
      outcomes.add(kind, number, milliseconds)
    } catch (error) {
      const what = `Case ${number} with seed ${seed} (${done}) failed, its files are in ${directory.path}`
      throw new Error(`${what}: ${String(error?.stack ?? error).slice(0, 2000)}`, { cause: error })
    }
    directory.restore()
  }
  rmSync(parent, { recursive: true })
  return outcomes
}
