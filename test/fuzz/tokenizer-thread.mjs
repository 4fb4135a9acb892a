/**
 * Runs the cases of the tokenizer fuzzer whose numbers it receives, and posts their outcomes. Texts are encoded as in a
 * generation: by the tokenizer of the event loop if the package would use that, otherwise by the one of its own thread.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setImmediate as yieldToEventLoop } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { kindOfRefusal, tidy } from './cases.mjs'
import { TOKENIZER_REFUSALS, writeCase } from './tokenizer-mutations.mjs'

const { dist, directory, files, seed } = workerData
const require = createRequire(import.meta.url)
const { findTokenizer, loadTokenizer } = require(join(dist, 'generation/tokenizer.js'))
const { ownSchedstatPath } = require(join(dist, 'generation/cpu-time.js'))
/** How long encoding a short text may block the event loop. */
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
      kind = kindOfRefusal(error, TOKENIZER_REFUSALS)
    } catch {
      return { failure: `${done}: ${String(error?.stack ?? error).slice(0, 2000)}` }
    }
  }
  return { kind, milliseconds: performance.now() - start }
}

parentPort.on('message', async (number) => {
  const outcome = await report(number)
  await yieldToEventLoop() // timers and callbacks that the case has left behind fail here, not in a later case
  parentPort.postMessage(outcome)
  tidy()
})
parentPort.postMessage(ownSchedstatPath())
