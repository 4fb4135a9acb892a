/** The texts that a checkpoint gives to its special tokens; absent where tokenizer_config.json names none. */
export interface SpecialTokenTexts {
  readonly bos?: string
  readonly eos?: string
  readonly pad?: string
  readonly unk?: string
}

/** A checkpoint's tokenizer. All methods are synchronous; unknown ids decode to nothing, as in transformers. */
export interface Tokenizer {
  /**
   * Token ids of `text`. Special tokens written out in the text (`<|im_end|>`) become their ids.
   * @param options.addSpecialTokens adds what the checkpoint's post-processor adds around a plain text (a leading
   * `<s>`); true if not told. A rendered chat template already holds its special tokens: pass false there.
   */
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): number[]
  /**
   * Text of `ids`. Bytes that are not UTF-8 become U+FFFD. Spaces are never "cleaned up": the text is what the tokens say.
   * @param options.skipSpecialTokens leaves out special tokens; false if not told
   */
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): string
  tokenToId(token: string): number | undefined
  /** The token as the vocabulary spells it (`Ġhello` for " hello" in a byte-level vocabulary). */
  idToToken(id: number): string | undefined
  /** The bytes that this token adds to a text: often not whole UTF-8 characters. Undefined for an unknown id. */
  idToBytes(id: number): Uint8Array | undefined
  /** One more than the highest id. A model's `vocab_size` is often larger, padded for the hardware. */
  readonly vocabularySize: number
  /** Ids that `skipSpecialTokens` leaves out. */
  readonly specialIds: ReadonlySet<number>
  readonly specialTokens: SpecialTokenTexts
  /** How many spaces at the very beginning of a decoded text are not part of it (1 in SentencePiece vocabularies). */
  readonly leadingSpacesToStrip: number
  /** The chat template that goes with the vocabulary, where the checkpoint need not bring one. */
  readonly defaultChatTemplate?: string
}
