/** How well a chat model answers checked prompts, and how well it predicts a text. */
import { readFile } from 'node:fs/promises'

const data = (name) => new URL(`../data/${name}`, import.meta.url)

/**
 * Greedy answers to the demo's checked prompts. An answer counts only if the whole text, stripped of white space at its
 * ends, is the expected one.
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
 * @param {(text: string) => number[]} encode the corpus's special tokens become their ids
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
