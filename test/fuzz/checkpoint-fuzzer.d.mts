import type { Checkpoint } from '../../src/checkpoint/types'

export interface FuzzOptions {
  readonly models: string
  readonly openCheckpoint: (directory: string) => Promise<Checkpoint>
  readonly load?: (directory: string) => Promise<void>
  readonly seed: number
  readonly first?: number
  readonly more: (cases: number) => boolean
}

export function fuzzCheckpoints(options: FuzzOptions): Promise<{ cases: number; opened: number }>
