/** Special tokens of a checkpoint; undefined if tokenizer_config.json does not name them. */
export interface SpecialTokenTexts {
  readonly bos?: string
  readonly eos?: string
  readonly pad?: string
  readonly unk?: string
}

/** Options of encoding. */
export interface EncodeOptions {
  /**
   * Adds the special tokens that the checkpoint puts around plain text (a leading `<s>`); default true. Pass false for
   * a rendered chat template, which already contains them.
   */
  readonly addSpecialTokens?: boolean | undefined
}

/**
 * Encodes a text. Special tokens in it (`<|im_end|>`) become their ids.
 * @throws BillfishError INVALID_CHECKPOINT for a text that the tokenizer has no ids for; INVALID_OPTION for a too long
 *   one
 */
export type Encode = (text: string, options?: EncodeOptions) => number[]

/** The tokenizer of a checkpoint. All methods are synchronous; unknown ids decode to nothing, as in transformers. */
export interface Tokenizer {
  /**
   * Present only if it runs in linear time whatever the checkpoint files contain. Otherwise, and for long texts, encode
   * on a TextWorker.
   */
  readonly encode?: Encode | undefined
  /** The file it was read from. */
  readonly file: string
  readonly fileBytes: number
  /** Maximum expansion of a text before it reaches the model. */
  readonly growth: number
  /** Maximum UTF-8 bytes of a text. */
  readonly maxTextBytes: number
  /**
   * Decodes `ids`. Invalid UTF-8 becomes U+FFFD. Spaces are never cleaned up: the text is what the tokens say.
   * @param options.skipSpecialTokens omits special tokens; default false
   */
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): string
  tokenToId(token: string): number | undefined
  /** The token in vocabulary spelling (`Ġhello` for " hello" in a byte-level vocabulary). */
  idToToken(id: number): string | undefined
  /** Bytes this token adds to a text, often incomplete UTF-8. Undefined for an unknown id. */
  idToBytes(id: number): Uint8Array | undefined
  /** Highest id plus one. `vocab_size` of a model is often larger, padded for the hardware. */
  readonly vocabularySize: number
  /** Ids omitted by `skipSpecialTokens`. */
  readonly specialIds: ReadonlySet<number>
  readonly specialTokens: SpecialTokenTexts
  /** Leading spaces of decoded text that are not part of it (1 in SentencePiece vocabularies). */
  readonly leadingSpacesToStrip: number
  /** Chat template of the vocabulary, if the checkpoint need not have one. */
  readonly defaultChatTemplate?: string
}

/** A tokenizer that encodes synchronously, however long it takes. */
export interface EncodingTokenizer extends Tokenizer {
  readonly encode: Encode
}
