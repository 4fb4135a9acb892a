/**
 * Packages whose types are written for ES modules only, loaded on first use by `require`, for which each has a build of
 * its own. No `import()`: in CommonJS code that runs in a `vm` context (Jest, vitest's vmThreads) it needs a flag.
 */
export type TokenizersLibrary = typeof import('@huggingface/tokenizers', { with: { 'resolution-mode': 'import' }})
export type JinjaLibrary = typeof import('@huggingface/jinja', { with: { 'resolution-mode': 'import' }})

export function tokenizersLibrary(): TokenizersLibrary {
  return require('@huggingface/tokenizers')
}

export function jinjaLibrary(): JinjaLibrary {
  return require('@huggingface/jinja')
}
