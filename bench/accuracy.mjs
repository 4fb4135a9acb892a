/**
 * `npm run bench -- accuracy [DIRECTORY ...]`: exact answers and perplexity of versions of the demo model, with fp32
 * arithmetic and with the fast default. Without a directory: the Int4 version that comes with the project.
 */
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { exactMatch, perplexity } from './lib/accuracy.mjs'
import { readArguments } from './lib/command-line.mjs'

const require = createRequire(import.meta.url)

const USAGE = `npm run bench -- accuracy [DIRECTORY ...]
  DIRECTORY    versions of the demo model (examples/demo-model)`

export async function run(args) {
  const directories = args.filter((word) => !word.startsWith('-'))
  if (
    readArguments(
      USAGE,
      args.filter((word) => word.startsWith('-')),
      {},
    ) === undefined
  )
    return
  const { loadModel } = require('../dist/index.js')
  const { loadTokenizer } = require('../dist/generation/tokenizer.js')
  const shipped = fileURLToPath(new URL('../examples/demo-model', import.meta.url))
  console.log('| version | dtype | exact | perplexity | scored tokens |\n|---|---|---|---|---|')
  for (const directory of directories.length > 0 ? directories : [shipped]) {
    const tokenizer = await loadTokenizer(directory)
    const encode = (text) => tokenizer.encode(text, { addSpecialTokens: false })
    for (const dtype of ['float32', 'auto']) {
      const model = await loadModel(directory, { dtype, maxModelLength: 1024, maxSequences: 8 })
      const answers = await exactMatch(model)
      const { perplexity: value, scored } = await perplexity(model, encode)
      const exact = `${answers.right} of ${answers.of}`
      console.log(`| ${basename(directory)} | ${dtype} | ${exact} | ${value.toFixed(5)} | ${scored} |`)
      for (const { prompt, answer } of answers.wrong) console.error(`  wrong: ${prompt} -> ${answer}`)
      await model.dispose()
    }
  }
}
