/** The vocabulary of random models: ids are what a benchmark sends, but servers and loaders want text. */
import { writeFileSync } from 'node:fs'

/** The only control token: the end of a text. */
export const END_OF_TEXT = 256

/** Byte-level tokens first, then the end of a text, fillers up to the vocabulary's size. @returns {string[]} by id */
export function vocabulary(size) {
  // The printable characters that byte-level BPE shows bytes as: itself where printable, 256 and up for the others.
  const tokens = []
  let substitute = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    tokens.push(String.fromCodePoint(printable ? byte : substitute++))
  }
  tokens.push('<|endoftext|>')
  for (let id = tokens.length; id < size; id++) tokens.push(`<|filler_${id}|>`)
  return tokens
}

/** Writes tokenizer.json and tokenizer_config.json into a checkpoint's directory. All tokens but the end are text. */
export function writeTokenizer(directory, size) {
  const tokens = vocabulary(size)
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  const end = { id: END_OF_TEXT, content: tokens[END_OF_TEXT], special: true }
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [{ ...end, single_word: false, lstrip: false, rstrip: false, normalized: false }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: [] },
  }
  writeFileSync(`${directory}/tokenizer.json`, JSON.stringify(tokenizer))
  writeFileSync(`${directory}/tokenizer_config.json`, JSON.stringify({ eos_token: tokens[END_OF_TEXT] }))
}
