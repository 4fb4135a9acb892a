/**
 * `npm run bench -- accuracy [DIRECTORY ...]`: exact answers and perplexity of versions of the demo model, with fp32
 * arithmetic and with the fast default. Without a directory: the Int4 version that comes with the project.
 */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readArguments } from './lib/command-line.mjs'

const require = createRequire(import.meta.url)

const USAGE = `npm run bench -- accuracy [DIRECTORY ...]
  DIRECTORY    versions of the demo model (examples/demo-model)`

export async function run(args) {
  const directories = args.filter((word) => !word.startsWith('-'))
  const options = args.filter((word) => word.startsWith('-'))
  if (readArguments(USAGE, options, {}) === undefined) return
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

const data = (name) => new URL(`data/${name}`, import.meta.url)

/**
 * Greedy answers to the demo's prompts. An answer is right only if its whole trimmed text is the expected one.
 * @param {import('../src/index').Model} model
 * @returns {Promise<{right: number, of: number, wrong: {prompt: string, expected: string, answer: string}[]}>}
 */
export async function exactMatch(model, concurrency = 8) {
  const { prompts } = JSON.parse(await readFile(data('demo-eval.json'), 'utf8'))
  const wrong = []
  const rest = [...prompts]
  const work = async () => {
    for (let next = rest.shift(); next; next = rest.shift()) {
      const messages = [{ role: 'user', content: next.prompt }]
      const { text } = await model.generate(messages, { temperature: 0, maxNewTokens: 128 }).result()
      if (text.trim() !== next.answer) wrong.push({ prompt: next.prompt, expected: next.answer, answer: text.trim() })
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return { right: prompts.length - wrong.length, of: prompts.length, wrong }
}

/**
 * Perplexity over the demo's corpus: windows of `window` tokens start every `stride` tokens; each token is scored once,
 * in the first window that holds it; exp of the mean negative log-likelihood.
 * @param {import('../src/index').Model} model
 * @param {(text: string) => number[]} encode with special tokens as their ids
 * @returns {Promise<{ perplexity: number, scored: number, tokens: number }>}
 */
export async function perplexity(model, encode, window = 512, stride = 256) {
  const ids = encode(await readFile(data('demo-corpus.txt'), 'utf8'))
  let loss = 0
  let scored = 0
  for (let begin = 0, done = 1; done < ids.length; begin += stride) {
    const end = Math.min(begin + window, ids.length)
    const { logits, vocabSize } = await model.forward(ids.slice(begin, end))
    for (let position = done; position < end; position++) {
      loss += negativeLogLikelihood(logits, (position - 1 - begin) * vocabSize, vocabSize, ids[position])
    }
    scored += end - done
    done = end
  }
  return { perplexity: Math.exp(loss / scored), scored, tokens: ids.length }
}

function negativeLogLikelihood(logits, offset, vocabSize, token) {
  let highest = -Infinity
  for (let v = 0; v < vocabSize; v++) highest = Math.max(highest, logits[offset + v])
  let sum = 0
  for (let v = 0; v < vocabSize; v++) sum += Math.exp(logits[offset + v] - highest)
  return highest + Math.log(sum) - logits[offset + token]
}
