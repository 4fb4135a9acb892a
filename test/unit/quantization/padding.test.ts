import { describe, expect, it, test } from 'vitest'
import {
  type ChannelRun,
  type PaddingPlacement,
  type PaddingRule,
  paddedSize,
  paddingRuns,
  paddingUnit,
  ZEROS,
} from '../../../src/quantization/padding'
import { Random } from '../../support/random.cjs'

/** The definition, word for word. */
function isLegal(size: number, { groupSize, tile, parallelSizes }: PaddingRule): boolean {
  return parallelSizes.every((n) => size % n === 0 && (size / n) % groupSize === 0 && (size / n) % tile === 0)
}

/** The source's channel at every place of the padded dimension, -1 for a zero. */
function places(runs: readonly ChannelRun[]): number[] {
  return runs.flatMap(({ start, count }) =>
    Array.from({ length: count }, (_, i) => (start === ZEROS ? ZEROS : start + i)),
  )
}

describe('paddedSize', () => {
  test.each([
    [29568, 128, 64, [2, 4, 8], 29696], // Qwen2-72B
    [29568, 128, 1, [1], 29568],
    [29568, 128, 64, [2], 29696],
    [29568, 1, 64, [2, 4, 8], 29696],
    [29568, 1, 1, [2, 4, 8], 29568],
    [13696, 128, 64, [2], 13824], // Qwen1.5-14B, 107 groups
    [13696, 128, 64, [8], 14336],
    [11008, 128, 64, [2], 11008], // Qwen-7B, 86 groups
    [11008, 128, 64, [4], 11264],
    [640, 128, 64, [2], 768],
    [384, 128, 64, [3], 384],
    [384, 128, 64, [3, 2], 768],
    [384, 32, 64, [4], 512],
    [1, 1, 1, [1], 1],
  ])('%i channels in groups of %i, tiles of %i, for %j: %i', (size, groupSize, tile, parallelSizes, expected) => {
    expect(paddedSize(size, { groupSize, tile, parallelSizes })).toBe(expected)
  })

  it('is valid, and no smaller size is', () => {
    for (const groupSize of [1, 3, 32, 64, 128])
      for (const tile of [1, 16, 24, 64])
        for (const parallelSizes of [[1], [2], [3], [6, 4], [2, 4, 8]])
          for (const size of [1, 63, 64, 160, 384, 385, 1000, 3000]) {
            const rule = { groupSize, tile, parallelSizes }
            const padded = paddedSize(size, rule)
            let least = size
            while (!isLegal(least, rule)) least++
            expect([rule, size, padded]).toEqual([rule, size, least])
            expect(padded % paddingUnit(rule)).toBe(0)
            expect(paddedSize(padded, rule)).toBe(padded)
          }
  })

  it('is the smallest valid size for random sizes, groups, tiles and numbers of ranks, too', () => {
    const random = new Random(1)
    for (let i = 0; i < 300; i++) {
      const parallelSizes = Array.from({ length: 1 + random.below(3) }, () => 1 + random.below(9))
      const rule = { groupSize: 1 + random.below(130), tile: 1 + random.below(64), parallelSizes }
      const size = 1 + random.below(20_000)
      const step = rule.groupSize // a legal size is whole groups: nothing is left out between these
      let least = Math.ceil(size / step) * step
      while (!isLegal(least, rule)) least += step
      expect([rule, size, paddedSize(size, rule)]).toEqual([rule, size, least])
    }
  })

  const rule = { groupSize: 128, tile: 64, parallelSizes: [2] }
  test.each([
    [{ ...rule, parallelSizes: [] }, 384, /no parallel size/],
    [{ ...rule, parallelSizes: [2, 0] }, 384, /parallel size is 0, but must be a whole number/],
    [{ ...rule, parallelSizes: [1.5] }, 384, /parallel size is 1\.5/],
    [{ ...rule, groupSize: -1 }, 384, /group size is -1/],
    [{ ...rule, tile: Number.NaN }, 384, /tile is NaN/],
    [rule, 0, /size is 0/],
    [rule, 2 ** 31, /size is 2147483648/],
    [rule, 2 ** 31 - 1, /2147483647 channels padded to a multiple of 256, for parallel sizes 2, exceed 2147483647/],
    [
      { ...rule, parallelSizes: [65521, 65519] },
      384,
      /Groups of 128, tiles of 64 and the parallel sizes 65521, 65519 have no common multiple/,
    ],
    [{ ...rule, parallelSizes: Array.from({ length: 200 }, (_, i) => i + 1) }, 384, /no common multiple/],
  ])('%j for %d is refused', (wrong, size, message) => {
    expect(() => paddedSize(size, wrong)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })
})

describe('paddingRuns', () => {
  test.each<[number, number, PaddingPlacement, number[]]>([
    [3, 5, 'tail', [0, 1, 2, -1, -1]],
    [3, 5, 'interleaved', [0, -1, 1, -1, 2]],
    [3, 6, 'interleaved', [0, -1, 1, -1, 2, -1]],
    [4, 5, 'interleaved', [0, -1, 1, 2, 3]],
    [3, 8, 'tail', [0, 1, 2, -1, -1, -1, -1, -1]],
  ])('%i to %i, %s', (size, padded, placement, expected) => {
    expect(places(paddingRuns(size, padded, placement))).toEqual(expected)
  })

  it('is a permutation with zeros, in order, in runs as long as can be', () => {
    for (const placement of ['tail', 'interleaved'] as const)
      for (const [size, padded] of [
        [384, 512],
        [384, 385],
        [384, 768],
        [7, 7],
      ] as const) {
        const runs = paddingRuns(size, padded, placement)
        const all = places(runs)
        expect(all.length).toBe(padded)
        expect(all.filter((channel) => channel !== ZEROS)).toEqual(Array.from({ length: size }, (_, i) => i))
        for (const [i, run] of runs.entries()) {
          const next = runs[i + 1]
          expect(run.count).toBeGreaterThan(0)
          if (next && run.start !== ZEROS) expect(next.start).not.toBe(run.start + run.count)
          if (next && run.start === ZEROS) expect(next.start).not.toBe(ZEROS)
        }
      }
  })

  it('copies everything in one run if there is nothing to pad', () => {
    expect(paddingRuns(384, 384, 'interleaved')).toEqual([{ start: 0, count: 384 }])
  })

  it('refuses to shrink, and to interleave more zeros than there are channels', () => {
    expect(() => paddingRuns(384, 383, 'tail')).toThrow(/384 channels cannot be padded to 383/)
    expect(() => paddingRuns(3, 7, 'interleaved')).toThrow(/4 zero channels cannot be interleaved with 3 channels/)
    expect(() => paddingRuns(3, 4.5, 'tail')).toThrow(/padded size is 4\.5/)
  })
})
