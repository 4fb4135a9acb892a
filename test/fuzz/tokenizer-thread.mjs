/**
 * Runs the cases of the tokenizer fuzzer whose numbers it is sent, and posts what became of each. It runs the code that a generation runs: what encodes
 * on the event loop, if the package would encode there, else what encodes on the package's own thread.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setImmediate as yieldToEventLoop } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { tidy } from './memory.mjs'
import { kindOfRefusal } from './outcomes.mjs'
import { REFUSALS, writeCase } from './tokenizer-cases.mjs'

const { dist, directory, files, seed } = workerData
const require = createRequire(import.meta.url)
const { findTokenizer, loadTokenizer } = require(join(dist, 'generation/tokenizer.js'))
const { ownSchedstatPath } = require(join(dist, 'generation/cpu-time.js'))
/** Of short texts, where everything else waits. */
const MAX_HELD_MILLISECONDS = 100

async function runCase({ text, addSpecialTokens }) {
  const tokenizer = await findTokenizer(directory)
  if (tokenizer === undefined) throw new Error('no tokenizer was found')
  tokenizer.decode([0, 1, 2, 299, 1_000_000])
  const here = tokenizer.encode !== undefined
  const { encode } = here ? tokenizer : await loadTokenizer(directory)
  const before = process.threadCpuUsage?.() ?? process.cpuUsage()
  const ids = encode(text, { addSpecialTokens })
  const { user } = process.threadCpuUsage?.(before) ?? process.cpuUsage(before)
  if (here && user / 1000 > MAX_HELD_MILLISECONDS) throw new Error(`the event loop was held for ${user / 1000} ms`)
  tokenizer.decode(ids)
  tokenizer.decode(ids, { skipSpecialTokens: true })
  return here ? 'encoded on the event loop' : 'encoded on a thread'
}

async function report(number) {
  const { done, ...texts } = writeCase(directory, files, seed, number)
  const start = performance.now()
  let kind
  try {
    kind = await runCase(texts)
  } catch (error) {
    try {
      kind = kindOfRefusal(error, REFUSALS)
    } catch {
      return { failure: `${done}: ${String(error?.stack ?? error).slice(0, 2000)}` }
    }
  }
  return { kind, milliseconds: performance.now() - start }
}

parentPort.on('message', async (number) => {
  const outcome = await report(number)
  await yieldToEventLoop() // what the case has left to be done fails here, not after cases that come without a pause
  parentPort.postMessage(outcome)
  tidy()
})
parentPort.postMessage(ownSchedstatPath())
