// CommonJS: one forward pass, and the five likeliest next tokens with their log-probabilities.
//
//   node examples/logits.cjs [directory of a checkpoint]
const { join } = require('node:path')
const { loadModel } = require('billfish')

async function main() {
  const model = await loadModel(process.argv[2] ?? join(__dirname, 'demo-model'), { dtype: 'float32' })
  try {
    const { logits, vocabSize } = await model.forward([1, 2, 3])
    const last = logits.subarray(logits.length - vocabSize)
    const largest = last.reduce((a, b) => Math.max(a, b))
    const logSum = largest + Math.log(last.reduce((sum, x) => sum + Math.exp(x - largest), 0))
    const likeliest = Array.from(last.keys()).sort((a, b) => last[b] - last[a])
    console.table(likeliest.slice(0, 5).map((id) => ({ id, logProbability: last[id] - logSum })))
  } finally {
    await model.dispose()
  }
}

main()
