import { BillfishError } from '../errors'

/** Typed arrays that hold token ids. Bytes are none: they are a text that was not decoded. */
const TYPED_ARRAYS = ['Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array']

/** What token ids are checked against. */
export interface TokenIdBounds {
  /** Token ids are below this. */
  readonly vocabulary: number
  /** Tokens that may be given. */
  readonly most: number
  /** What `most` is, as a message ends with it. */
  readonly why: string
}

/**
 * A copy of token ids that a caller gave, each read once and checked; their number is checked before anything is
 * allocated for them.
 * @param given an array, an array-like object, or a typed array of whole numbers of 16 or 32 bits
 * @throws BillfishError INVALID_OPTION if there are none, too many, or one that the model does not have
 */
export function readTokenIds(given: unknown, bounds: TokenIdBounds): number[] {
  try {
    return copyTokenIds(given, bounds)
  } catch (error) {
    if (error instanceof BillfishError) throw error
    throw refused('The token ids cannot be read: a getter of theirs throws.', error)
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
      const range = `the model's token ids are whole numbers from 0 to ${vocabulary - 1}`
      throw refused(`Token ${i} of the prompt is ${printed(id)}; ${range}.`)
    }
    ids[i] = id
  }
  return ids
}

/** @throws BillfishError INVALID_OPTION for typed arrays that hold no token ids */
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
