/**
 * A package whose types are written for ES modules only, loaded on first use by `require`, for which it has a build of its
 * own. No `import()`: in CommonJS code that runs in a `vm` context (Jest, vitest's vmThreads) it needs a flag.
 */
export type TokenizersLibrary = typeof import('@huggingface/tokenizers', { with: { 'resolution-mode': 'import' }})

export function tokenizersLibrary(): TokenizersLibrary {
  return require('@huggingface/tokenizers')
}
