import type { Model } from '../../src/index'

export declare function exactMatch(
  model: Model,
  concurrency?: number,
): Promise<{ right: number; of: number; wrong: { prompt: string; expected: string; answer: string }[] }>

export declare function perplexity(
  model: Model,
  encode: (text: string) => number[],
  window?: number,
  stride?: number,
): Promise<{ perplexity: number; scored: number; tokens: number }>
