/** The texts that a checkpoint gives to its special tokens; absent where tokenizer_config.json names none. */
export interface SpecialTokenTexts {
  readonly bos?: string
  readonly eos?: string
  readonly pad?: string
  readonly unk?: string
}

/** What encoding a text is told. */
export interface EncodeOptions {
  /**
   * Adds what the checkpoint adds around a plain text (a leading `<s>`); true if not told. A rendered chat template
   * already holds its special tokens: pass false there.
   */
  readonly addSpecialTokens?: boolean | undefined
}

/**
 * Token ids of a text. Special tokens written out in it (`<|im_end|>`) become their ids.
 * @throws BillfishError INVALID_CHECKPOINT for a text that the tokenizer has no ids for; INVALID_OPTION for one too long
 */
export type Encode = (text: string, options?: EncodeOptions) => number[]

/** A checkpoint's tokenizer. All methods are synchronous; unknown ids decode to nothing, as in transformers. */
export interface Tokenizer {
  /**
   * Only where it takes time in proportion to the text, whatever the checkpoint's files say: else, and for long texts,
   * encode on a TextWorker.
   */
  readonly encode?: Encode | undefined
  /** The file that it was read from. */
  readonly file: string
  readonly fileBytes: number
  /** How many times as long a text may become on its way to the model, at most. */
  readonly growth: number
  /** Bytes of UTF-8 of the longest text that it encodes. */
  readonly longestText: number
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

/** A tokenizer that encodes where it is, whatever time that takes. */
export interface EncodingTokenizer extends Tokenizer {
  readonly encode: Encode
}
