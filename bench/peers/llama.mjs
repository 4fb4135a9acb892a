/**
 * llama.cpp through node-llama-cpp, as a measured process: forked by a benchmark, it answers one request at a time (see
 * bench/lib/measured-process.mjs). Token ids go in, so that no text is involved, and both settings of flash attention
 * are offered: the benchmark keeps the faster.
 */
import { getLlama } from 'node-llama-cpp'
import { answerRequests } from '../lib/measured-process.mjs'

const threads = Number(process.env.BENCH_THREADS)
let model
const sequences = new Map()

/**
 * The only sequence of a context with the given flash attention. The time inside the native decode call is summed, which
 * tells how much of a run node-llama-cpp's JavaScript and sampling take.
 */
async function sequenceWith(flashAttention, contextSize) {
  const existing = sequences.get(flashAttention)
  if (existing) return existing
  const context = await model.createContext({
    contextSize,
    batchSize: contextSize,
    sequences: 1,
    threads: { ideal: threads, min: threads },
    flashAttention,
  })
  const entry = { sequence: context.getSequence(), native: 0 }
  const native = context._ctx // private, hence node-llama-cpp's exact version in package.json
  context._ctx = new Proxy(
    {},
    {
      get: (_, name) => {
        if (name !== 'decodeBatch') return native[name].bind(native)
        return async () => {
          const start = performance.now()
          await native.decodeBatch()
          entry.native += performance.now() - start
        }
      },
    },
  )
  sequences.set(flashAttention, entry)
  return entry
}

answerRequests({
  /** Loads the file, memory-mapped; contexts are made when first used. Milliseconds. */
  async load({ path }) {
    const llama = await getLlama({
      gpu: false,
      build: 'never',
      skipDownload: true,
      maxThreads: threads,
      logLevel: 'error',
    })
    const start = performance.now()
    model = await llama.loadModel({ modelPath: path, gpuLayers: 0, useMmap: true, useMlock: false })
    const milliseconds = performance.now() - start
    return { milliseconds, version: llama.llamaCppRelease.release, features: llama.systemInfo.trim() }
  },

  /** Evaluates a prompt from an empty cache, without head or sampling. Tokens per second. */
  async prefill({ ids, contextSize, flashAttention }) {
    const { sequence } = await sequenceWith(flashAttention, contextSize)
    await sequence.clearHistory()
    const start = performance.now()
    await sequence.evaluateWithoutGeneratingNewTokens(ids)
    return { tokensPerSecond: (ids.length / (performance.now() - start)) * 1000 }
  },

  /** Greedy decoding of `tokens` tokens after the prompt's first new token. Tokens per second, and the tokens. */
  async decode({ ids, tokens, contextSize, flashAttention }) {
    const entry = await sequenceWith(flashAttention, contextSize)
    await entry.sequence.clearHistory()
    const generated = []
    let start = 0
    for await (const token of entry.sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
      if (generated.length === 0) {
        start = performance.now()
        entry.native = 0
      }
      generated.push(token)
      if (generated.length > tokens) break
    }
    const milliseconds = performance.now() - start
    return {
      tokensPerSecond: (tokens / milliseconds) * 1000,
      overheadMillisecondsPerToken: (milliseconds - entry.native) / tokens,
      generated,
    }
  },
})
