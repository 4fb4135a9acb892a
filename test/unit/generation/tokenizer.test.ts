import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bytePairMerge } from '../../../src/generation/byte-pair-merge'
import { loadTokenizer } from '../../../src/generation/tokenizer'
import type { EncodingTokenizer } from '../../../src/generation/types'
import { Random } from '../../support/random.cjs'

const DEMO = join(__dirname, '../../../examples/demo-model')
const FIXTURES = join(__dirname, '../../fixtures/generation')

interface EncodedCase {
  text: string
  ids: number[]
  decoded: string
  skipped: string
}

async function readFixture<T>(name: string): Promise<T> {
  return JSON.parse(await readFile(join(FIXTURES, name), 'utf8')) as T
}

describe('tokenizer.json', async () => {
  const tokenizer = await loadTokenizer(DEMO)
  const fixture = await readFixture<{
    encoded: EncodedCase[]
    random: Omit<EncodedCase, 'text'>[]
    conversations: { prompt: string; prompt_ids: number[]; output_ids: number[]; text: string }[]
  }>('demo-tokenizer.json')

  it.each(fixture.encoded)('encodes as the reference does: $text', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids)
  })

  it('decodes as the reference does, ids of broken characters included', () => {
    for (const { ids, decoded, skipped } of [...fixture.encoded, ...fixture.random]) {
      expect(tokenizer.decode(ids)).toBe(decoded)
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(skipped)
    }
  })

  it('decodes what the model generated', () => {
    for (const { output_ids, text } of fixture.conversations) {
      expect(tokenizer.decode(output_ids, { skipSpecialTokens: true })).toBe(text)
    }
  })

  it('knows its special tokens and its size', () => {
    expect(tokenizer.vocabularySize).toBe(2048)
    expect([...tokenizer.specialIds].sort()).toEqual([2045, 2046, 2047])
    expect(tokenizer.specialTokens).toEqual({ eos: '<|im_end|>', pad: '<|endoftext|>' })
    expect(tokenizer.tokenToId('<|im_end|>')).toBe(2047)
    expect(tokenizer.idToToken(2047)).toBe('<|im_end|>')
  })

  it('leaves unknown ids out', () => {
    expect(tokenizer.idToBytes(2048)).toBeUndefined()
    expect(tokenizer.idToToken(99999)).toBeUndefined()
    expect(tokenizer.decode([99999, ...tokenizer.encode('x'), 2048])).toBe('x')
    expect(tokenizer.decode([])).toBe('')
  })
})

describe('a SentencePiece-style tokenizer.json', () => {
  let directory: string
  let tokenizer: EncodingTokenizer
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'billfish-tokenizer-'))
    const pieces = ['<unk>', '<s>', '</s>']
    for (let byte = 0; byte < 256; byte++) pieces.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
    pieces.push('▁', 'H', 'i', 'Hi', '▁Hi', '▁▁')
    const json = {
      added_tokens: [0, 1, 2].map((id) => ({ id, content: pieces[id], special: true, normalized: false })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [],
        special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        byte_fallback: true,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: ['H i', '▁ Hi', '▁ ▁'],
      },
    }
    await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(json))
    await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify({ bos_token: { content: '<s>' } }))
    tokenizer = await loadTokenizer(directory)
  })
  afterAll(() => rm(directory, { recursive: true }))

  it('adds special tokens only on request', () => {
    expect(tokenizer.encode('Hi')).toEqual([1, 263])
    expect(tokenizer.encode('Hi', { addSpecialTokens: false })).toEqual([263])
    expect(tokenizer.specialTokens).toEqual({ bos: '<s>' })
  })

  it('falls back to bytes and strips one leading space', () => {
    const ids = tokenizer.encode('Hi 你', { addSpecialTokens: false })
    expect(ids).toEqual([263, 259, 3 + 0xe4, 3 + 0xbd, 3 + 0xa0])
    expect(tokenizer.decode(ids)).toBe('Hi 你')
    expect(tokenizer.decode([264, 263])).toBe('  Hi')
    expect(tokenizer.decode([1, 263])).toBe('<s> Hi')
    expect(tokenizer.decode([1, 263], { skipSpecialTokens: true })).toBe('Hi')
  })
})

describe('added tokens of a byte-level tokenizer.json', () => {
  it('stand for their own text, and are left out only if they are special', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'billfish-tokenizer-'))
    const json = {
      added_tokens: [
        { id: 1, content: '<é>', special: false },
        { id: 2, content: '<|end|>', special: true },
        { id: 3, content: '<|turn|>', special: false },
      ],
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
    }
    await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(json))
    const additional = { additional_special_tokens: ['<|turn|>'] }
    await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify(additional))
    const tokenizer = await loadTokenizer(directory)
    await rm(directory, { recursive: true })
    expect(tokenizer.encode('<|turn|>a<é>a<|end|>')).toEqual([3, 0, 1, 0, 2])
    expect(tokenizer.decode([3, 0, 1, 0, 2])).toBe('<|turn|>a<é>a<|end|>')
    expect(tokenizer.decode([3, 0, 1, 0, 2], { skipSpecialTokens: true })).toBe('a<é>a')
  })
})

describe('the tables of a BPE tokenizer.json', () => {
  /** What a tokenizer knows by text and by id, as the library itself fills its tables. */
  const tables = ({
    model,
  }: {
    model: { tokens_to_ids: Map<string, number>; vocab: string[]; unk_token_id?: number }
  }) => ({
    ids: new Map([...model.tokens_to_ids].sort()),
    tokens: Array.from(model.vocab),
    unknown: model.unk_token_id,
  })
  const compare = async (json: Record<string, unknown>): Promise<void> => {
    const { Tokenizer: Library } = await import('@huggingface/tokenizers')
    const directory = await mkdtemp(join(tmpdir(), 'billfish-tokenizer-'))
    await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(json))
    const ours = await loadTokenizer(directory)
    const library = new Library(json, {})
    await rm(directory, { recursive: true })
    const { ids, tokens, unknown } = tables(library as never)
    expect(ours.vocabularySize).toBe(tokens.length)
    for (const [token, id] of ids) expect(ours.tokenToId(token), token).toBe(id)
    for (const [id, token] of tokens.entries()) expect(ours.idToToken(id), `${id}`).toBe(token)
    for (const text of ['ab a?b', 'b<x>', '?', 'ba<y>b'])
      expect(ours.encode(text), text).toEqual(library.encode(text).ids)
    expect(ours.encode('?').includes(unknown ?? -1)).toBe(unknown !== undefined)
  }
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: { type: 'ByteLevel' } }
  const vocab = { a: 0, b: 1, ab: 2, '<x>': 3, '<u>': 4 }

  it('are those of the library, where added tokens name the same ids and others', async () => {
    const model = { type: 'BPE', vocab, merges: ['a b'], unk_token: '<u>' }
    const added = [
      { id: 3, content: '<x>', special: true },
      { id: 1, content: '<y>', special: false },
      { id: 9, content: 'ab', special: false },
      { id: 5000, content: '<z>', special: true },
    ]
    await compare({ ...parts, model, added_tokens: added })
    await compare({ ...parts, model: { ...model, unk_token: null }, added_tokens: [] })
  })

  it('may have ids twice, and ids in any order with some left out', async () => {
    const model = { type: 'BPE', vocab: { ...vocab, c: 2, d: 7, e: 6 }, merges: [['a', 'b']], unk_token: '<u>' }
    await compare({ ...parts, model, added_tokens: [] })
  })
})

describe('qwen.tiktoken', async () => {
  const tokenizer = await loadTokenizer(join(FIXTURES, 'qwen1'))
  const fixture = await readFixture<{ ranks: number; encoded: EncodedCase[] }>('qwen-tiktoken.json')

  it.each(fixture.encoded)('encodes and decodes as tiktoken does: $text', ({ text, ids, decoded }) => {
    expect(tokenizer.encode(text)).toEqual(ids)
    expect(tokenizer.decode(ids)).toBe(decoded)
  })

  it('puts the special tokens after the ranks', () => {
    expect(tokenizer.tokenToId('<|endoftext|>')).toBe(fixture.ranks)
    expect(tokenizer.tokenToId('<|im_start|>')).toBe(fixture.ranks + 1)
    expect(tokenizer.tokenToId('<|im_end|>')).toBe(fixture.ranks + 2)
    expect(tokenizer.tokenToId('<|extra_204|>')).toBe(fixture.ranks + 207)
    expect(tokenizer.vocabularySize).toBe(fixture.ranks + 208)
    expect(tokenizer.decode(tokenizer.encode('a<|im_end|>b'), { skipSpecialTokens: true })).toBe('ab')
  })
})

describe('bytePairMerge', () => {
  /** tiktoken's rule, word for word: scan all pairs, merge the lowest rank, leftmost first. */
  function bruteForce(piece: string, ranks: ReadonlyMap<string, number>): number[] {
    const parts = [...piece]
    for (;;) {
      let best = -1
      let bestRank = Infinity
      for (let index = 0; index + 1 < parts.length; index++) {
        const rank = ranks.get(`${parts[index]}${parts[index + 1]}`)
        if (rank !== undefined && rank < bestRank) [best, bestRank] = [index, rank]
      }
      if (best < 0) return parts.map((part) => ranks.get(part) as number)
      parts.splice(best, 2, `${parts[best]}${parts[best + 1]}`)
    }
  }

  const numbers = new Random(1)
  const random = (below: number) => numbers.below(below)
  const word = (length: number): string => Array.from({ length }, () => 'abc'[random(3)]).join('')

  it('equals the brute-force rule on random vocabularies', () => {
    for (let round = 0; round < 60; round++) {
      const tokens = new Set(['a', 'b', 'c'])
      while (tokens.size < 30) tokens.add(word(2 + random(4)))
      const ranks = new Map([...tokens].map((token, rank) => [token, rank]))
      for (let trial = 0; trial < 20; trial++) {
        const piece = word(1 + random(40))
        const whole = ranks.get(piece)
        const expected = whole === undefined ? bruteForce(piece, ranks) : [whole]
        expect(bytePairMerge(piece, ranks), piece).toEqual(expected)
      }
    }
  })

  it('merges a long piece quickly', () => {
    const ranks = new Map([...'abc', 'aa', 'aaaa', 'ab'].map((token, rank) => [token, rank]))
    const started = performance.now()
    expect(bytePairMerge('a'.repeat(200_000), ranks)).toHaveLength(50_000)
    expect(performance.now() - started).toBeLessThan(5000)
  })
})

describe('a directory without a usable tokenizer', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'billfish-tokenizer-'))
  })
  afterAll(() => rm(directory, { recursive: true }))

  const refused = async (files: Record<string, string>, message: RegExp): Promise<void> => {
    const broken = await mkdtemp(join(directory, 'case-'))
    for (const [name, content] of Object.entries(files)) await writeFile(join(broken, name), content)
    await expect(loadTokenizer(broken)).rejects.toMatchObject({
      name: 'BillfishError',
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(message),
    })
  }
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [] }
  const json = (parts: object): Record<string, string> => ({
    'tokenizer.json': JSON.stringify({ decoder: { type: 'ByteLevel' }, model, ...parts }),
  })

  it('names the missing files and the way out', async () => {
    await refused({}, /neither tokenizer\.json nor qwen\.tiktoken is there/)
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 11421896\n`
    await refused({ 'tokenizer.json': pointer }, /tokenizer\.json is a Git LFS pointer to a file of 11421896 bytes/)
    await refused({ 'vocab.json': '{}', 'merges.txt': pointer }, /merges\.txt is a Git LFS pointer/)
    await refused({ 'tokenizer.model': '' }, /There is a tokenizer\.model: convert it to tokenizer\.json/)
  })

  it('refuses malformed files by name', async () => {
    await refused({ 'tokenizer.json': '{' }, /tokenizer\.json is not valid JSON/)
    await refused({ 'tokenizer.json': '[]' }, /must hold a JSON object/)
    await refused(json({ model: 3 }), /model must be an object/)
    await refused(json({ model: { ...model, vocab: { a: -1 } } }), /gives "a" the id -1/)
    await refused(json({ model: { ...model, vocab: { a: 1e9 } } }), /gives "a" the id 1000000000/)
    await refused(json({ model: { ...model, merges: ['a'] } }), /merge 0 is "a"/)
    await refused(json({ model: { ...model, vocab: ['a'] } }), /model\.vocab must be an object, where there are merges/)
    await refused(json({ model: { type: 'WordPiece', vocab: 3 } }), /model\.vocab must be an object or an array/)
    await refused(json({ added_tokens: [{ content: 'x' }] }), /added token/)
    await refused(json({ decoder: { type: 'WordPiece' } }), /cannot stream the decoder/)
    await refused(json({ pre_tokenizer: { type: 'Nonsense' } }), /tokenizer\.json cannot be read/)
  })

  it('refuses a malformed qwen.tiktoken by line', async () => {
    const lines = Array.from({ length: 256 }, (_, byte) => `${Buffer.from([byte]).toString('base64')} ${byte}`)
    await refused({ 'qwen.tiktoken': 'YQ== x' }, /line 1 is not a base64 token and a rank/)
    await refused({ 'qwen.tiktoken': 'YQ== 0\nYg== 2' }, /line 2 has the rank 2, but 1 comes next/)
    await refused({ 'qwen.tiktoken': 'YQ== 0\nYQ== 1' }, /line 2 repeats/)
    await refused({ 'qwen.tiktoken': lines.slice(0, 255).join('\n') }, /no token for the single byte 255/)
  })
})
