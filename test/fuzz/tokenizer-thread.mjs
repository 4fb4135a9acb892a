/**
 * Runs cases of the tokenizer fuzzer, and posts what became of each. It runs the code that a generation runs: what encodes
 * on the event loop, if the package would encode there, else what encodes on the package's own thread.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { tidy } from './memory.mjs'
import { kindOfRefusal } from './outcomes.mjs'
import { REFUSALS, writeCase } from './tokenizer-cases.mjs'

const { dist, directory, files, seed, first, sample } = workerData
const { findTokenizer, loadTokenizer } = createRequire(import.meta.url)(join(dist, 'generation/tokenizer.js'))
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

parentPort.postMessage('ready')
for (let number = first; ; number++) {
  if (number % sample === 0) continue // these are run as users do
  const { done, ...texts } = writeCase(directory, files, seed, number)
  const start = performance.now()
  let kind
  try {
    kind = await runCase(texts)
  } catch (error) {
    try {
      kind = kindOfRefusal(error, REFUSALS)
    } catch {
      parentPort.postMessage({ number, done, failure: String(error?.stack ?? error).slice(0, 2000) })
      break
    }
  }
  parentPort.postMessage({ number, kind, milliseconds: performance.now() - start })
  tidy()
}
