import type { Checkpoint } from '../checkpoint/types'
import { type EmbeddingConfig, PLAIN_EMBEDDING, readEmbeddingConfig } from './pooling'
import { readScoreHead, type ScoreHead } from './score-head'

/** What a checkpoint says of vectors and scores. */
export interface EmbeddingFiles {
  config(): Promise<EmbeddingConfig>
  scoreHead(hiddenSize: number): Promise<ScoreHead | undefined>
}

/** Of a model that has no files. */
export const noEmbeddingFiles: EmbeddingFiles = {
  config: async () => PLAIN_EMBEDDING,
  scoreHead: async () => undefined,
}

/** Read when they are asked for first: most models are never asked. */
export function embeddingFiles(checkpoint: Checkpoint): EmbeddingFiles {
  let config: Promise<EmbeddingConfig> | undefined
  let head: Promise<ScoreHead | undefined> | undefined
  return {
    config: () => {
      config ??= readEmbeddingConfig(checkpoint.directory)
      return config
    },
    scoreHead: (hiddenSize) => {
      head ??= readScoreHead(checkpoint, hiddenSize)
      return head
    },
  }
}
