import type { loadTokenizer } from '../../src/index'
import type { Outcomes } from './outcomes.mjs'

export function fuzzTokenizers(options: {
  readonly files: ReadonlyMap<string, string>
  readonly dist: string
  readonly loadTokenizer: typeof loadTokenizer
  readonly seed: number
  readonly first?: number
  readonly more: (cases: number) => boolean
}): Promise<Outcomes>
