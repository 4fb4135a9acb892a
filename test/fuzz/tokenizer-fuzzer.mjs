/**
 * Loads damaged tokenizers and encodes texts with them. Whatever the damage, the result is token ids or a BillfishError. No
 * other error is thrown, and no case takes long.
 *
 * Cases share a thread, since starting one for each would take most of the time. A case that computes for longer than
 * PATIENCE milliseconds ends the thread, as the package does after its own, longer limit. Every SAMPLE-th case goes through
 * the package's API instead, with its own thread and limit.
 */
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { kindOfRefusal, Outcomes, Stopwatch, temporaryFolder } from './cases.mjs'
import { TOKENIZER_REFUSALS, writeCase } from './tokenizer-mutations.mjs'

const PATIENCE = 400
const SAMPLE = 250
const HEAP_MIB = 512

/**
 * @param {object} options
 * @param {ReadonlyMap<string, string>} options.files as from smallTokenizer()
 * @param {string} options.dist the built package
 * @param {typeof import('../../src/index').loadTokenizer} options.loadTokenizer
 * @param {number} options.seed
 * @param {number} [options.first] number of the first case
 * @param {(done: number) => boolean} options.more whether to run another case after `done` cases
 * @returns {Promise<Outcomes>} kinds are `encoded ...`, `ended ...` and those of refusals
 * @throws {Error} that tells how to run the failing case again
 */
export async function fuzzTokenizers({ files, dist, loadTokenizer, seed, first = 0, more }) {
  const folder = mkdtempSync(join(temporaryFolder, 'billfish-fuzz-'))
  const [onThread, asUsers] = ['on-thread', 'as-users'].map((name) => join(folder, name))
  mkdirSync(onThread)
  mkdirSync(asUsers)
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
      thread ??= new CaseThread({ dist, directory: onThread, files, seed })
      const report = await thread.run(number)
      if (report === undefined) {
        await thread.end()
        thread = undefined
        outcomes.add(`ended after ${PATIENCE} ms`, number, PATIENCE)
        continue
      }
      if (report.failure !== undefined) throw new Error(report.failure)
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

/** A thread that runs cases. */
class CaseThread {
  #worker
  #ready
  #take = () => {}
  /** Why the thread ended by itself. */
  #failure
  #cpuTime

  constructor(workerData) {
    const { cpuTime } = createRequire(import.meta.url)(join(workerData.dist, 'generation/cpu-time.js'))
    this.#cpuTime = cpuTime
    const resourceLimits = { maxOldGenerationSizeMb: HEAP_MIB }
    this.#worker = new Worker(new URL('tokenizer-thread.mjs', import.meta.url), { workerData, resourceLimits })
    this.#ready = once(this.#worker, 'message')
    this.#worker.on('message', (report) => this.#take(report))
    this.#worker.on('error', (error) => this.#fail(String(error?.stack ?? error)))
    this.#worker.on('exit', (code) => this.#fail(`the thread has ended with exit code ${code}`))
  }

  /** Fails the running case; between two cases, the next one. */
  #fail(failure) {
    this.#failure ??= { failure }
    this.#take(this.#failure)
  }

  /** The outcome of a case; undefined if it takes too long. */
  async run(number) {
    const [schedule] = await this.#ready
    // 0 for a thread that has ended; its `exit` event follows soon.
    const computed = () => (schedule === undefined ? performance.now() : (this.#cpuTime(schedule) ?? 0))
    const until = computed() + PATIENCE
    let timer
    if (this.#failure !== undefined) return this.#failure
    const report = await new Promise((resolve) => {
      this.#take = resolve
      const wait = () => {
        timer = setTimeout(() => (computed() < until ? wait() : resolve()), Math.max(until - computed(), 10))
      }
      wait()
      this.#worker.postMessage(number)
    })
    clearTimeout(timer)
    return report
  }

  async end() {
    await this.#worker.terminate()
  }
}

async function runAsUsersDo(loadTokenizer, directory, files, seed, number) {
  const texts = writeCase(directory, files, seed, number)
  const watch = new Stopwatch()
  const kind = await asUsersDo(loadTokenizer, directory, texts)
  const milliseconds = watch.read()
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
    return kindOfRefusal(error, TOKENIZER_REFUSALS)
  } finally {
    await tokenizer?.dispose()
  }
}
