import { BillfishError } from '../common/errors'

/** Typed arrays accepted as token ids. Not bytes: those are undecoded text. */
const TYPED_ARRAYS = ['Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array']

/** Limits that token ids are checked against. */
export interface TokenIdBounds {
  /** Upper bound (exclusive) of token ids. */
  readonly vocabulary: number
  /** Maximum number of tokens. */
  readonly most: number
  /** What `most` is, to complete an error message. */
  readonly why: string
}

/**
 * Copies and checks token ids from a caller, reading each once; their number is checked before anything is allocated.
 * @param given an array, array-like object, or typed array of 16- or 32-bit integers
 * @throws BillfishError INVALID_OPTION if there are none, too many, or an invalid one
 */
export function readTokenIds(given: unknown, bounds: TokenIdBounds): number[] {
  try {
    return copyTokenIds(given, bounds)
  } catch (error) {
    if (error instanceof BillfishError) throw error
    throw refused('The token ids cannot be read: a getter throws.', error)
  }
}

function copyTokenIds(given: unknown, { vocabulary, most, why }: TokenIdBounds): number[] {
  if (typeof given !== 'object' || given === null) {
    const advice = typeof given === 'string' ? '; generate() takes a text' : ''
    throw refused(
      `Token ids must be an array of whole numbers, not ${given === null ? 'null' : typeof given}${advice}.`,
    )
  }
  rejectOtherTypedArrays(given)
  const { length } = given as ArrayLike<unknown>
  if (!Number.isSafeInteger(length) || length < 0) {
    throw refused(`Token ids must be an array of whole numbers; this object's length is ${printed(length)}.`)
  }
  if (length === 0) throw refused('The prompt has no tokens; give at least one.')
  if (length > most) throw refused(`The prompt has ${length} tokens, but ${most} is ${why}.`)
  const ids = new Array<number>(length)
  for (let i = 0; i < length; i++) {
    const id = (given as ArrayLike<unknown>)[i]
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabulary) {
      const range = `token ids of this model are integers from 0 to ${vocabulary - 1}`
      throw refused(`Token ${i} of the prompt is ${printed(id)}; ${range}.`)
    }
    ids[i] = id
  }
  return ids
}

/** @throws BillfishError INVALID_OPTION for unsupported typed arrays */
export function rejectOtherTypedArrays(given: object): void {
  if (!ArrayBuffer.isView(given)) return
  const kind = Object.prototype.toString.call(given).slice('[object '.length, -1)
  if (TYPED_ARRAYS.includes(kind)) return
  throw refused(`Token ids must be an array, or one of ${TYPED_ARRAYS.join(', ')}, not ${kind}.`)
}

function printed(value: unknown): string {
  if (typeof value === 'bigint') return `the bigint ${value}n`
  if (typeof value === 'number' || value === undefined || value === null) return String(value)
  return typeof value === 'string' ? `the text ${JSON.stringify(value.slice(0, 40))}` : `of type ${typeof value}`
}

function refused(message: string, cause?: unknown): BillfishError {
  return new BillfishError('INVALID_OPTION', message, cause === undefined ? undefined : { cause })
}
