import { isObject } from '../checkpoint/json'

/** A normalizer of the library. */
interface Normalizer {
  /** Of a sequence, those in it. */
  readonly normalizers?: readonly (Normalizer | null)[]
  normalize(text: string): string
}

const SPACES_BEFORE = /^\p{White_Space}+/u
const SPACE = /\p{White_Space}/u

/**
 * Lets the library's normalizers do as those of Hugging Face's tokenizers, in Rust, do: these strip Unicode's white space,
 * and lower each character by itself, so that a sigma at the end of a word is like any other.
 * @param part - of tokenizer.json, which the normalizer was made from
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

/** JavaScript lowers the last sigma of a word to another letter. */
function withPlainSigmas(text: string): string {
  return text.replaceAll('\u03a3', '\u03c3')
}

function stripped(text: string, left: boolean, right: boolean): string {
  const start = left ? (SPACES_BEFORE.exec(text)?.[0].length ?? 0) : 0
  let end = text.length
  while (right && end > start && SPACE.test(text[end - 1] as string)) end--
  return text.slice(start, end)
}
