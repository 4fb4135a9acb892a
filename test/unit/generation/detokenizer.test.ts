import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Detokenizer } from '../../../src/generation/detokenizer'
import { loadTokenizer } from '../../../src/generation/tokenizer'
import { Utf8Stream } from '../../../src/generation/utf8-stream'
import { Random } from '../../support/random.cjs'

const utf8 = new TextEncoder()

const numbers = new Random(1)
const random = (below: number) => numbers.below(below)

describe('Utf8Stream', () => {
  const decodeWhole = (bytes: Uint8Array) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  const decodeInPieces = (bytes: Uint8Array, size: () => number): string => {
    const stream = new Utf8Stream()
    let text = ''
    for (let start = 0; start < bytes.length; ) {
      const end = Math.min(bytes.length, start + size())
      text += stream.push(bytes.subarray(start, end))
      start = end
    }
    return text + stream.flush()
  }

  it('emits a character with its last byte, not earlier', () => {
    const stream = new Utf8Stream()
    const [first, second, third, fourth] = utf8.encode('🐟') as unknown as [number, number, number, number]
    expect(stream.push(Uint8Array.of(0x61, first))).toBe('a')
    expect(stream.push(Uint8Array.of(second))).toBe('')
    expect(stream.push(Uint8Array.of(third))).toBe('')
    expect(stream.push(Uint8Array.of(fourth, 0x62))).toBe('🐟b')
    expect(stream.flush()).toBe('')
  })

  it('replaces an unfinished character at the end', () => {
    const stream = new Utf8Stream()
    expect(stream.push(Uint8Array.of(0xe4, 0xbd))).toBe('')
    expect(stream.flush()).toBe('\ufffd')
    expect(stream.flush()).toBe('')
  })

  it('keeps a byte order mark, as decoding the bytes of a token does', () => {
    expect(decodeInPieces(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61), () => 1)).toBe('\ufeffa')
  })

  it('equals decoding at once, wherever the pieces are cut: all pairs and triples of telling bytes', () => {
    const telling = [0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xe4, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff]
    for (const a of telling) {
      for (const b of telling) {
        for (const c of telling) {
          const bytes = Uint8Array.of(a, b, c, 0x80, 0x42)
          expect(decodeInPieces(bytes, () => 1)).toBe(decodeWhole(bytes))
        }
      }
    }
  })

  it('equals decoding at once: random bytes and damaged text in random pieces', () => {
    const text = utf8.encode('naïve 你好 🐟👩‍👩‍👧 ½ ไทย')
    for (let round = 0; round < 3000; round++) {
      const bytes = Uint8Array.from({ length: 24 }, () => random(256))
      const damaged = Uint8Array.from(text, (byte) => (random(8) === 0 ? random(256) : byte))
      for (const sample of [bytes, damaged]) {
        expect(decodeInPieces(sample, () => 1 + random(4))).toBe(decodeWhole(sample))
      }
    }
  })
})

describe('Detokenizer', async () => {
  const tokenizer = await loadTokenizer(join(__dirname, '../../../examples/demo-model'))
  const path = join(__dirname, '../../fixtures/generation/demo-tokenizer.json')
  const fixture = JSON.parse(await readFile(path, 'utf8')) as {
    encoded: { text: string; ids: number[]; decoded: string; skipped: string }[]
    random: { ids: number[]; decoded: string; skipped: string }[]
  }

  it.each([true, false])('streams exactly what decoding at once gives (skipSpecialTokens: %s)', (skipSpecialTokens) => {
    for (const { ids, decoded, skipped } of [...fixture.encoded, ...fixture.random]) {
      const detokenizer = new Detokenizer(tokenizer, { skipSpecialTokens })
      const chunks = [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()]
      expect(chunks.join('')).toBe(skipSpecialTokens ? skipped : decoded)
    }
  })

  it('never emits half a character of valid text', () => {
    for (const { text, ids } of fixture.encoded) {
      if (text.includes('\ufffd')) continue
      const detokenizer = new Detokenizer(tokenizer, { skipSpecialTokens: false })
      for (const id of ids) expect(detokenizer.push(id)).not.toContain('\ufffd')
      expect(detokenizer.flush()).toBe('')
    }
  })

  it('strips the leading spaces of a SentencePiece text only once, at the beginning', () => {
    const pieces = [' ', ' a', ' b', '<s>'].map((text) => utf8.encode(text))
    const tokens = { idToBytes: (id: number) => pieces[id], specialIds: new Set([3]), leadingSpacesToStrip: 1 }
    const stream = (ids: number[]) => {
      const detokenizer = new Detokenizer(tokens, { skipSpecialTokens: true })
      return ids.map((id) => detokenizer.push(id))
    }
    expect(stream([3, 1, 2])).toEqual(['', 'a', ' b'])
    expect(stream([0, 1, 3, 2])).toEqual(['', ' a', '', ' b'])
  })
})
