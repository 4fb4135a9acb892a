/**
 * Everything that `import ... from 'billfish/ai-sdk'` gives: loaded models as models of the AI SDK, in the same process.
 * For `ai` 6 and later.
 * @module billfish/ai-sdk
 */

export type { Models } from '../../named-models'
export type { BillfishOptions } from './call'
export type { BillfishEmbeddingOptions } from './embedding-model'
export { type BillfishProvider, createBillfish } from './provider'
