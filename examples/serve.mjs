// A server for OpenAI's clients in a program of one's own, which also uses the model itself.
//
//   node examples/serve.mjs [directory of a checkpoint]
import { fileURLToPath } from 'node:url'
import { loadModel } from 'billfish'
import { createServer } from 'billfish/server'

const demoModel = fileURLToPath(new URL('demo-model', import.meta.url))
const model = await loadModel(process.argv[2] ?? demoModel)
const server = await createServer({ demo: model }, { port: 8000, apiKeys: ['secret'] })
console.log(`Ask ${server.url}/v1/chat/completions with the key 'secret'; Ctrl-C stops.`)

const report = setInterval(() => {
  const { running, waiting } = model.activity()
  if (running + waiting > 0) console.log(`${running} running, ${waiting} waiting`)
}, 1000)

process.once('SIGINT', async () => {
  clearInterval(report)
  await server.close() // once what is running is answered
  await model.dispose()
})
