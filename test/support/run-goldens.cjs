// Runs fixture models in a separate process (the instruction set is chosen once per process) and prints their outputs.
// Usage: node run-goldens.cjs MODEL...
const { readFileSync } = require('node:fs')
const { join, resolve } = require('node:path')
const { devices, loadModel } = require('../../dist/index.js')

async function main() {
  const models = []
  for (const name of process.argv.slice(2)) {
    const directory = resolve(__dirname, '../fixtures/models', name)
    const { prompts } = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8'))
    for (const dtype of ['float32', 'auto']) {
      const model = await loadModel(directory, { dtype, maxModelLength: 64 })
      const { logits } = await model.forward(prompts.p33)
      const { tokenIds } = await model
        .generate(prompts.p33, { maxNewTokens: 24, temperature: 0, ignoreEos: true })
        .result()
      await model.dispose()
      models.push({ name, dtype, tokenIds, logits: Buffer.from(logits.buffer).toString('base64') })
    }
  }
  process.stdout.write(JSON.stringify({ instructionSet: devices().devices[0].instructionSet, models }))
}
main()
