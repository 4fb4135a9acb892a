import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadTokenizer } from '../../../src/generation/tokenizer'
import { scratchDirectory } from '../../support/directories'

interface Entry {
  readonly name: string
  readonly normalizer: unknown
  readonly pre_tokenizer: unknown
  /** That of the demo model's first tokens, if there is none. */
  readonly model?: object
  /** Ids of the texts. */
  readonly encoded: readonly (readonly number[])[]
}

const demo = resolve(__dirname, '../../../examples/demo-model')
const fixture = JSON.parse(readFileSync(join(__dirname, '../../fixtures/generation/tokenizer-parts.json'), 'utf8')) as {
  texts: readonly string[]
  entries: readonly Entry[]
}
const directory = scratchDirectory()

/** A tokenizer with other parts than the demo model's. */
async function tokenizerOf(parts: Partial<Entry>) {
  const { smallTokenizer } = await import('../../fuzz/tokenizer-mutations.mjs')
  for (const [file, contents] of smallTokenizer(demo)) writeFileSync(join(directory, file), contents)
  const json = JSON.parse(readFileSync(join(directory, 'tokenizer.json'), 'utf8'))
  const { normalizer, pre_tokenizer, model = json.model } = parts
  const own = parts.model && { added_tokens: ADDED, post_processor: null, decoder: { type: 'Fuse' } }
  const changed = { ...json, ...own, normalizer, pre_tokenizer, model }
  writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify(changed))
  return loadTokenizer(directory)
}

const ADDED = ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true, normalized: false }))

describe("texts are tokenized as by Hugging Face's tokenizers", () => {
  it.each(fixture.entries.map((entry) => [entry.name, entry] as const))('%s', async (_name, entry) => {
    const tokenizer = await tokenizerOf(entry)
    for (const [index, text] of fixture.texts.entries()) {
      expect(tokenizer.encode(text, { addSpecialTokens: false }), JSON.stringify(text)).toEqual(entry.encoded[index])
    }
  })
})

it('refuses a BPE model with a prefix for tokens within a word', async () => {
  const model = { type: 'BPE', vocab: { a: 0, '##b': 1, ab: 2 }, merges: ['a ##b'], continuing_subword_prefix: '##' }
  await expect(tokenizerOf({ normalizer: null, pre_tokenizer: null, model })).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringContaining('continuing_subword_prefix "##"'),
  })
})
