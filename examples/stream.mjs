// Streams an answer; the layers are split over two devices.
//
//   node examples/stream.mjs ["a question"] [directory of a checkpoint]
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { devices, layerSplit, loadModel } from 'billfish'

const demoModel = fileURLToPath(new URL('demo-model', import.meta.url))
const [question = 'What is the capital of France?', directory = demoModel] = process.argv.slice(2)

const gpus = devices().devices.filter(({ kind }) => kind === 'cuda')
const targets = gpus.length > 0 ? gpus.map(({ device }) => device) : ['cpu:0', 'cpu:1']
const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'))

const model = await loadModel(directory, { deviceMap: layerSplit(targets, config.num_hidden_layers) })
try {
  const generation = model.generate([{ role: 'user', content: question }], { maxNewTokens: 100 })
  for await (const chunk of generation) process.stdout.write(chunk.text)
  const { usage, finishReason } = await generation.result()
  console.log('\n', usage, finishReason)
} finally {
  await model.dispose()
}
