/** billfish as a measured process: the same requests as bench/peers/llama.mjs, answered through the public API. */
import { loadModel } from '../../dist/index.js'
import { answerRequests } from './measured-process.mjs'

let model

/** Greedy generation from token ids, to the very end whatever the tokens say; its result and wall-clock milliseconds. */
async function generate(ids, maxNewTokens) {
  const start = performance.now()
  const result = await model.generate(ids, { maxNewTokens, temperature: 0, ignoreEos: true }).result()
  return { result, milliseconds: performance.now() - start }
}

answerRequests({
  /** Loads the checkpoint directory. Milliseconds. */
  async load({ path, contextSize, dtype, deviceMap }) {
    const start = performance.now()
    const sizes = { maxModelLength: contextSize, maxSequences: 1 }
    model = await loadModel(path, { deviceMap, dtype, ...sizes, prefixCache: false }) // prompts may begin alike
    return { milliseconds: performance.now() - start, memory: model.memory() }
  },

  /** Evaluates a prompt and takes its first token, head and sampling included. Tokens per second. */
  async prefill({ ids }) {
    const { result, milliseconds } = await generate(ids, 1)
    return { tokensPerSecond: (ids.length / milliseconds) * 1000, timings: result.timings }
  },

  /** Greedy decoding of `tokens` tokens after the prompt's first new token. Tokens per second, and the tokens. */
  async decode({ ids, tokens }) {
    const { result, milliseconds } = await generate(ids, tokens + 1)
    const decoding = milliseconds - result.timings.timeToFirstToken
    return { tokensPerSecond: (tokens / decoding) * 1000, timings: result.timings, generated: result.tokenIds }
  },

  /** Ends the model before the process does. */
  async dispose() {
    await model.dispose()
  },
})
