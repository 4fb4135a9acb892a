// A thousand decode steps on one model with sequences that come, go and are aborted at any time: every answer must be the
// one that the same prompt gets alone, and memory must stay where it was. Prints "N passed, N failed"; with
// `--json FILE` writes what it counted.
//
//   node test/gpu/soak.cjs [--devices cuda:0,cpu] [--steps 1000] [--model DIRECTORY] [--json FILE]
const { writeFileSync } = require('node:fs')
const { resolve } = require('node:path')
const { parseArgs } = require('node:util')
const { devices, loadModel } = require('../../dist/index.js')
const { Random } = require('../support/random.cjs')

const mostPrompts = 12
const mostTokens = 40 // of an answer
const sequences = 6 // at the same time, of which some wait for their turn
const limits = { maxModelLength: 96, maxSequences: 4, maxBatchTokens: 64, maxCacheTokens: 160 }

const stepsOf = (model) => (model.trace().steps.at(-1)?.step ?? -1) + 1
const bytesOf = (model) =>
  model.memory().map(({ device, weights, kvCache, buffers }) => [device, weights, kvCache, buffers])

/** The event loop turns until nothing is under way. */
async function idle(model) {
  for (;;) {
    const { waiting, running, stepsInFlight } = model.activity()
    if (waiting + running + stepsInFlight === 0) return
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

function check(condition, message) {
  if (!condition) throw new Error(message)
}

async function soak(directory, deviceMap, steps) {
  const model = await loadModel(directory, { deviceMap, ...limits })
  try {
    const numbers = new Random(7)
    const random = (end) => numbers.below(end)
    const prompts = Math.min(mostPrompts, Math.ceil(steps / 8))
    const longestAnswer = Math.min(mostTokens, steps)
    const ids = Array.from({ length: prompts }, () =>
      Array.from({ length: 1 + random(48) }, () => random(model.limits.vocabulary)),
    )
    const options = { temperature: 0, ignoreEos: true, maxNewTokens: longestAnswer }
    const alone = []
    for (const prompt of ids) alone.push((await model.generate(prompt, options).result()).tokenIds)

    const begun = stepsOf(model)
    const before = bytesOf(model)
    const counts = { answers: 0, aborts: 0, tokens: 0 }
    const sequence = async () => {
      while (stepsOf(model) - begun < steps) {
        const which = random(prompts)
        const maxNewTokens = 1 + random(longestAnswer)
        const controller = new AbortController()
        const abortAfter = random(3) === 0 ? random(maxNewTokens + 1) : Number.POSITIVE_INFINITY
        const got = []
        try {
          const generation = model.generate(ids[which], { ...options, maxNewTokens, signal: controller.signal })
          if (abortAfter === 0) controller.abort()
          for await (const { tokenIds } of generation) {
            got.push(...tokenIds)
            if (got.length >= abortAfter) controller.abort()
          }
          counts.answers++
          check(got.length === maxNewTokens, `${got.length} tokens came where ${maxNewTokens} were asked for`)
        } catch (error) {
          if (error !== controller.signal.reason) throw error
          counts.aborts++
        }
        counts.tokens += got.length
        const other = got.findIndex((token, i) => token !== alone[which][i])
        check(other === -1, `prompt ${which}: token ${other} is another one than alone`)
      }
    }
    await Promise.all(Array.from({ length: sequences }, sequence))
    await idle(model)
    const { cacheTokens, preemptions } = model.activity()
    const done = { ...counts, steps: stepsOf(model) - begun, preemptions }
    check(cacheTokens.inUse === 0, `${cacheTokens.inUse} tokens are still in the KV cache`)
    check(JSON.stringify(bytesOf(model)) === JSON.stringify(before), 'the model holds other bytes than before')
    check(counts.answers > 0 && counts.aborts > 0, `nothing to see: ${JSON.stringify(done)}`)
    return done
  } finally {
    await model.dispose()
  }
}

/** Bytes that are free on a CUDA device; null for others. */
function freeBytes(device) {
  return devices().devices.find((found) => found.device === device)?.freeBytes ?? null
}

async function main() {
  const { values } = parseArgs({
    options: {
      devices: { type: 'string' },
      steps: { type: 'string', default: '1000' },
      model: { type: 'string', default: resolve(__dirname, '../../examples/demo-model') },
      json: { type: 'string' },
    },
  })
  const steps = Number(values.steps)
  if (!Number.isInteger(steps) || steps < 1)
    throw new Error(`--steps is ${values.steps}, but must be a number from 1 on`)
  const found = devices().devices.filter(({ kind }) => kind === 'cuda')
  const wanted = values.devices?.split(',') ?? found.map(({ device }) => device)
  if (wanted.length === 0) {
    console.log(`skipped: no CUDA device (${devices().cuda.reason})\n0 passed, 0 failed`)
    return
  }
  const results = []
  for (const device of wanted) {
    const result = { device, error: undefined, counts: undefined, freeBytes: undefined }
    try {
      result.counts = await soak(values.model, device, Math.min(steps, 8)) // what is allocated once, is
      const before = freeBytes(device)
      result.counts = await soak(values.model, device, steps)
      const after = freeBytes(device)
      result.freeBytes = { before, after }
      if (before !== null) {
        // Other programs may take their part of it at the same time; what a model leaks would be more than this.
        check(before - after < 2 ** 20, `${device} has ${before - after} bytes less free than before`)
      }
    } catch (error) {
      result.error = `${error.code ?? ''} ${error.message}`.trim()
    }
    results.push(result)
    const text = result.error ?? JSON.stringify(result.counts)
    console.log(`${result.error ? 'FAILED ' : 'ok     '} soak of ${steps} steps on ${device}: ${text}`)
  }
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ steps, results }, null, 2)}\n`)
  const failed = results.filter(({ error }) => error).length
  console.log(`${results.length - failed} passed, ${failed} failed`)
  process.exitCode = failed > 0 ? 1 : 0
}
main()
