import { parseInteger } from './numbers'
import { Float, type Value } from './values'

/**
 * A number as Python reads it from JSON: with a point or an exponent it is a float, else an int of any size.
 * @throws SyntaxError
 */
export function parseJsonNumber(text: string): Value {
  const match = /^(-?(?:0|[1-9]\d*))(\.\d+)?([eE][+-]?\d+)?$/.exec(text)
  if (!match) throw new SyntaxError(`${text} is no number of JSON`)
  if (match[2] !== undefined || match[3] !== undefined) return new Float(Number(text))
  const size = text.startsWith('-') ? text.slice(1) : text
  const int = parseInteger(size)
  if (int === undefined) throw new SyntaxError('an integer with too many digits')
  return size === text ? int : typeof int === 'bigint' ? -int : 0 - int
}
