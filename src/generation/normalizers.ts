import { isObject } from '../checkpoint/json'

/** A normalizer of the library. */
interface Normalizer {
  /** Members of a sequence. */
  readonly normalizers?: readonly (Normalizer | null)[]
  normalize(text: string): string
}

const SPACES_BEFORE = /^\p{White_Space}+/u
const SPACE = /\p{White_Space}/u

/**
 * Patches normalizers of the library to match the Rust tokenizers, which strip Unicode white space and lower-case each
 * character on its own, so that a final sigma is like any other.
 * @param part the part of tokenizer.json that the normalizer was made from
 */
export function patchNormalizers(normalizer: unknown, part: unknown): void {
  if (!normalizer || !isObject(part)) return
  const made = normalizer as Normalizer
  if (part.type === 'Sequence') {
    const parts = part.normalizers as readonly unknown[]
    made.normalizers?.forEach((inner, index) => {
      patchNormalizers(inner, parts[index])
    })
  } else if (part.type === 'Strip') {
    made.normalize = (text) => stripped(text, part.strip_left === true, part.strip_right === true)
  } else if (part.type === 'Lowercase') {
    made.normalize = (text) => withPlainSigmas(text).toLowerCase()
  } else if (part.type === 'BertNormalizer' && part.lowercase === true) {
    const normalize = made.normalize.bind(made)
    made.normalize = (text) => normalize(withPlainSigmas(text))
  }
}

/** JavaScript lower-cases a word-final sigma to a different letter. */
function withPlainSigmas(text: string): string {
  return text.replaceAll('\u03a3', '\u03c3')
}

function stripped(text: string, left: boolean, right: boolean): string {
  const start = left ? (SPACES_BEFORE.exec(text)?.[0].length ?? 0) : 0
  let end = text.length
  while (right && end > start && SPACE.test(text[end - 1] as string)) end--
  return text.slice(start, end)
}
