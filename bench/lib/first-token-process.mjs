/** A clone of billfish as a measured process: how long a short request waits for its first token. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { answerRequests } from './measured-process.mjs'

const { loadModel } = await import(pathToFileURL(join(process.env.BILLFISH_CLONE, 'dist/index.mjs')).href)

const inputs = {
  text: (i) => `${i} times the fox and the hen met`,
  chat: (i) => [
    { role: 'system', content: `You are assistant ${i}.` },
    { role: 'user', content: `What is ${i} plus 2?` },
  ],
}

let model

/** Milliseconds from the call of `generate` to the end of its first step; no two inputs begin alike. */
async function firstToken(kind, i) {
  const start = performance.now()
  await model.generate(inputs[kind](i), { maxNewTokens: 1, temperature: 0, ignoreEos: true }).result()
  return performance.now() - start
}

answerRequests({
  /** Loads the checkpoint directory. Milliseconds. */
  async load({ path }) {
    const start = performance.now()
    model = await loadModel(path, { deviceMap: 'cpu', maxModelLength: 512 })
    return performance.now() - start
  },

  /** The first token of `calls` requests of one kind, one after the other. Milliseconds each. */
  async firstTokens({ kind, calls, from }) {
    const times = []
    for (let i = 0; i < calls; i++) times.push(await firstToken(kind, from + i))
    return times
  },

  /** Ends the model before the process does. */
  async dispose() {
    await model.dispose()
  },
})
