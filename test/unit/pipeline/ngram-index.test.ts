import { expect, test } from 'vitest'
import { NgramIndex } from '../../../src/pipeline/ngram-index'
import { Random } from '../../support/random.cjs'

const match = { minMatch: 2, maxMatch: 4 }
const propose = (tokens: readonly number[], count = 4, lengths = match) =>
  new NgramIndex(tokens, lengths).propose(count)

test('what followed the last tokens before is proposed', () => {
  expect(propose([1, 2, 3, 4, 5, 6, 9, 1, 2])).toEqual([3, 4, 5, 6])
  expect(propose([1, 2, 3, 4, 5, 6, 9, 1, 2], 1)).toEqual([3])
})

test('nothing is proposed for tokens that are new', () => {
  expect(propose([])).toEqual([])
  expect(propose([1])).toEqual([])
  expect(propose([1, 2])).toEqual([])
  expect(propose([1, 2, 3, 4, 5])).toEqual([])
  expect(propose([1, 2, 3, 4, 2])).toEqual([]) // a single token matches
})

test('a longer match goes before a shorter one, and the last occurrence before earlier ones', () => {
  expect(propose([1, 2, 3, 7, 8, 2, 3, 5, 6, 1, 2, 3], 2)).toEqual([7, 8])
  expect(propose([1, 2, 7, 7, 1, 2, 8, 8, 1, 2], 2)).toEqual([8, 8])
  expect(propose([1, 2, 3, 7, 8, 2, 3, 5, 6, 1, 2, 3], 2, { minMatch: 1, maxMatch: 2 })).toEqual([5, 6])
})

test('what repeats goes on', () => {
  expect(propose([5, 1, 2, 3, 1, 2, 3], 7)).toEqual([1, 2, 3, 1, 2, 3, 1])
  expect(propose([4, 4, 4], 3)).toEqual([4, 4, 4])
})

test('a sequence that grows is followed, like one that is searched from its beginning every time', () => {
  const random = new Random(1)
  const tokens: number[] = []
  const index = new NgramIndex(tokens, match)
  const searched = () => {
    for (let size = match.maxMatch; size >= match.minMatch; size--) {
      for (let end = tokens.length - 1; end >= size; end--) {
        const matches = Array.from({ length: size }, (_, i) => tokens[end - 1 - i] === tokens[tokens.length - 1 - i])
        if (matches.every(Boolean)) return tokens[end]
      }
    }
    return undefined
  }
  let found = 0
  let same = 0
  for (let i = 0; i < 400; i++) {
    tokens.push(random.below(12))
    const expected = searched()
    const [proposed] = index.propose(1)
    if (expected !== undefined) found++
    if (proposed === expected) same++
  }
  expect(found).toBeGreaterThan(200)
  expect(same).toBeGreaterThan(360) // some n-grams have displaced others
})

test('a million tokens take no longer for each than a thousand', () => {
  const tokens = Array.from({ length: 1_000_000 }, (_, i) => (i * 7919) % 50_021)
  const index = new NgramIndex(tokens, match)
  expect(index.propose(2)).toHaveLength(2)
  const began = performance.now()
  for (let i = 0; i < 1000; i++) {
    tokens.push(i % 7)
    index.propose(4)
  }
  expect(performance.now() - began).toBeLessThan(500) // 1000 searches of all tokens take seconds
})
