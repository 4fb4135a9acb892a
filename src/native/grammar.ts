/** Structured output's native classes: see binding/grammar. */

/** The tokens of a vocabulary by their bytes. */
export interface NativeTokenTrie {
  readonly [tokenTrie]: never
}
declare const tokenTrie: unique symbol

/** A grammar over a vocabulary, and what is known of its masks. */
export interface NativeGrammar {
  readonly [grammar]: never
}
declare const grammar: unique symbol

/** What a matcher makes of a token: the grammar does not continue so, or does, or nothing can follow it. */
export const matched = { refused: 0, open: 1, finished: 2 } as const

/** A text that is written under a grammar, token by token. */
export interface NativeMatcher {
  /** @param token not an end token */
  accept(token: number): (typeof matched)[keyof typeof matched]
  /** A bit a token of the vocabulary, least significant first: which may come next. Steps ask for it by themselves. */
  allowed(): Uint32Array
  /** Why no token is allowed; '' if none continues the text. */
  failure(): string
}

export interface GrammarClasses {
  /** Token t has the bytes from offsets[t] to offsets[t + 1]; one without bytes is never allowed. */
  readonly TokenTrie: new (
    bytes: Uint8Array,
    offsets: Int32Array,
  ) => NativeTokenTrie
  /** The arrays of {@link Automaton}. */
  readonly Grammar: new (
    trie: NativeTokenTrie,
    states: number,
    byteEdges: Int32Array,
    calls: Int32Array,
    rules: Int32Array,
  ) => NativeGrammar
  /** End tokens are allowed where the text is complete. */
  readonly Matcher: new (
    grammar: NativeGrammar,
    endTokens: Int32Array,
    leadingSpacesToStrip: number,
  ) => NativeMatcher
}
