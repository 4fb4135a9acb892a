import type { loadGenerationAssets } from '../../src/generation/assets'
import type { planModel } from '../../src/index'
import type { openCheckpoint } from '../../src/open-checkpoint'
import type { Outcomes } from './outcomes.mjs'

export interface FuzzOptions {
  readonly models: string
  readonly files?: ReadonlyMap<string, string>
  readonly openCheckpoint: typeof openCheckpoint
  readonly planModel: typeof planModel
  readonly loadGenerationAssets: typeof loadGenerationAssets
  readonly load?: (directory: string) => Promise<void>
  readonly seed: number
  readonly first?: number
  readonly more: (cases: number) => boolean
}

export function fuzzCheckpoints(options: FuzzOptions): Promise<Outcomes>
