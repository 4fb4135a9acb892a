/**
 * Loads damaged tokenizers and encodes texts with them. Whatever the damage: token ids come out, or a BillfishError; nothing
 * else is thrown, nothing takes long.
 *
 * Cases run on one thread after the other, since a thread for each would take most of the time. A case that lasts longer
 * than PATIENCE there ends the thread, as the package would after its own, longer patience; and every SAMPLE-th case is
 * given to the package as a user gives it, with its thread and its patience.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { kindOfRefusal, Outcomes } from './outcomes.mjs'
import { temporaryFolder } from './temporary-folder.mjs'
import { REFUSALS, writeCase } from './tokenizer-cases.mjs'

const PATIENCE = 400
const SAMPLE = 250
const MAX_MILLISECONDS = 2000
const HEAP_MIB = 512

/**
 * @param options.files - as smallTokenizer() gives them
 * @param options.dist - the built package
 * @param options.loadTokenizer - as the package exports it
 * @param options.seed - with a case's number, makes the case
 * @param options.more - told the number of cases done; cases go on while it says true
 * @returns Outcomes: `encoded ...`, `ended ...`, or a refusal's kind
 * @throws an Error that tells how to run the failing case again
 */
export async function fuzzTokenizers({ files, dist, loadTokenizer, seed, first = 0, more }) {
  const folder = mkdtempSync(join(temporaryFolder, 'billfish-fuzz-'))
  const [onThread, asUsers] = ['on-thread', 'as-users'].map((name) => join(folder, name))
  mkdirSync(onThread)
  mkdirSync(asUsers)
  const startThread = (from) => new CaseThread({ dist, directory: onThread, files, seed, first: from, sample: SAMPLE })
  const outcomes = new Outcomes()
  let thread
  let number = first
  try {
    for (; more(number - first); number++) {
      if (number % SAMPLE === 0) {
        const { kind, milliseconds } = await runAsUsersDo(loadTokenizer, asUsers, files, seed, number)
        outcomes.add(kind, number, milliseconds)
        continue
      }
      thread ??= startThread(number)
      const report = await thread.next()
      if (report === undefined) {
        await thread.end()
        thread = undefined
        outcomes.add(`ended after ${PATIENCE} ms`, number, PATIENCE)
        continue
      }
      if (report.failure !== undefined) throw new Error(`${report.done}: ${report.failure}`)
      outcomes.add(report.kind, number, report.milliseconds)
    }
  } catch (error) {
    const what = `Case ${number} with seed ${seed} failed, its files are in ${folder}`
    throw new Error(`${what}: ${String(error?.stack ?? error).slice(0, 2000)}`, { cause: error })
  } finally {
    await thread?.end()
  }
  rmSync(folder, { recursive: true })
  return outcomes
}

/** A thread that runs cases, and their reports in order. */
class CaseThread {
  #reports = []
  #wake = () => {}
  #worker
  #ready

  constructor(workerData) {
    const resourceLimits = { maxOldGenerationSizeMb: HEAP_MIB }
    this.#worker = new Worker(new URL('tokenizer-thread.mjs', import.meta.url), { workerData, resourceLimits })
    this.#ready = new Promise((resolve) => {
      const take = (report) => {
        resolve()
        if (report !== 'ready') this.#reports.push(report)
        this.#wake()
      }
      this.#worker.on('message', take)
      this.#worker.on('error', (error) => take({ failure: String(error?.stack ?? error), done: 'the thread has died' }))
    })
  }

  /** The next report; undefined if its case takes too long. */
  async next() {
    await this.#ready
    if (this.#reports.length === 0) {
      let timer
      await new Promise((resolve) => {
        this.#wake = resolve
        timer = setTimeout(resolve, PATIENCE)
      })
      clearTimeout(timer)
    }
    return this.#reports.shift()
  }

  async end() {
    await this.#worker.terminate()
  }
}

async function runAsUsersDo(loadTokenizer, directory, files, seed, number) {
  const { done, ...texts } = writeCase(directory, files, seed, number)
  const start = performance.now()
  const kind = await asUsersDo(loadTokenizer, directory, texts)
  const milliseconds = performance.now() - start
  if (milliseconds > MAX_MILLISECONDS) throw new Error(`${done}: it took ${Math.round(milliseconds)} ms`)
  return { kind, milliseconds }
}

async function asUsersDo(loadTokenizer, directory, { text, addSpecialTokens }) {
  let tokenizer
  try {
    tokenizer = await loadTokenizer(directory)
    const ids = await tokenizer.encode(text, { addSpecialTokens })
    tokenizer.decode(ids)
    return 'encoded by the package as users call it'
  } catch (error) {
    return kindOfRefusal(error, REFUSALS)
  } finally {
    await tokenizer?.dispose()
  }
}
