// Streams an answer through the AI SDK, and stops it after a while. Needs `npm install ai@6`.
//
//   node examples/ai-sdk.mjs ["a question"] [directory of a checkpoint]
import { fileURLToPath } from 'node:url'
import { streamText } from 'ai'
import { loadModel } from 'billfish'
import { createBillfish } from 'billfish/ai-sdk'

const demoModel = fileURLToPath(new URL('demo-model', import.meta.url))
const [prompt = 'What is the capital of France?', directory = demoModel] = process.argv.slice(2)

const model = await loadModel(directory)
const billfish = createBillfish(model)
const { fullStream } = streamText({ model: billfish(), prompt, abortSignal: AbortSignal.timeout(30_000) })
for await (const part of fullStream) {
  if (part.type === 'text-delta') process.stdout.write(part.text)
  if (part.type === 'abort') console.log('\nThat took too long.')
  if (part.type === 'error') throw part.error
  if (part.type === 'finish') console.log('\n', part.totalUsage, part.finishReason)
}
await model.dispose()
