import { PythonError, valueError } from '../errors'
import { Dict } from '../values/dict'
import type { Named, Runtime, Value } from '../values/values'
import { formatValue } from './format-spec'
import { asciiRepr } from './percent-format'

/** Nested fields in the format of a field. */
const MAX_NESTING = 2

/** Resolves the fields of a format string. */
interface Arguments {
  readonly positional: readonly Value[]
  /** The value of a name; undefined if there is none. */
  readonly named: (name: string) => Value | undefined
}

/**
 * `text.format(*args, **named)`, with the attribute lookup of the sandbox.
 * @param shown formats a value; undefined for the built-in format()
 * @throws PythonError
 */
export function strFormat(
  rt: Runtime,
  text: string,
  args: readonly Value[],
  named: Named,
  shown = formatValue,
): string {
  return new Formatter(rt, { positional: args, named: (name) => named?.get(name) }, shown).format(text, MAX_NESTING)
}

/** `text.format_map(mapping)` */
export function strFormatMap(rt: Runtime, text: string, mapping: Value, shown = formatValue): string {
  const named = (name: string) => (mapping instanceof Dict ? mapping.getText(name) : undefined)
  return new Formatter(rt, { positional: [], named }, shown).format(text, MAX_NESTING)
}

class Formatter {
  readonly #rt: Runtime
  readonly #args: Arguments
  readonly #shown: typeof formatValue
  #automatic = 0
  #numbering: 'automatic' | 'manual' | undefined

  constructor(rt: Runtime, args: Arguments, shown: typeof formatValue) {
    this.#rt = rt
    this.#args = args
    this.#shown = shown
  }

  format(text: string, nesting: number): string {
    if (nesting < 0) throw valueError('max string recursion exceeded')
    this.#rt.budget.walk(text.length)
    const braces = /[{}]|$/g
    let result = ''
    for (let at = 0; at < text.length; ) {
      this.#rt.budget.step()
      braces.lastIndex = at
      const brace = braces.exec(text)?.index ?? text.length
      result += text.slice(at, brace)
      at = brace
      if (at === text.length) break
      const char = text.charAt(at)
      if (text.charAt(at + 1) === char) {
        result += char
        at += 2
        continue
      }
      if (char === '}') throw valueError("single '}' encountered in format string")
      const end = fieldEnd(text, at)
      result += this.#field(text.slice(at + 1, end), nesting)
      at = end + 1
    }
    this.#rt.budget.text(result.length)
    return result
  }

  #field(field: string, nesting: number): string {
    const split = fieldParts(field)
    const value = this.#converted(this.#value(split.name), split.conversion)
    return this.#shown(this.#rt, value, this.format(split.spec, nesting - 1))
  }

  #value(field: string): Value {
    const match = /^([^.[]*)((?:\.[^.[]+|\[[^\]]+\])*)$/.exec(field)
    if (!match) throw valueError('empty attribute or missing bracket in format string')
    const [, first = '', rest = ''] = match
    if (first === '' && rest !== '') throw new PythonError('KeyError', "''")
    let value = this.#first(first)
    for (const [, attribute, key] of rest.matchAll(/\.([^.[]+)|\[([^\]]+)\]/g)) {
      if (attribute !== undefined) value = this.#rt.attribute(value, attribute)
      else value = this.#rt.item(value, /^\d{1,15}$/.test(key ?? '') ? Number(key) : (key ?? ''))
    }
    return value
  }

  #first(name: string): Value {
    const isNumber = /^\d+$/.test(name)
    if (name !== '' && !isNumber) {
      const value = this.#args.named(name)
      if (value === undefined) throw new PythonError('KeyError', this.#rt.repr(name))
      return value
    }
    const numbering = isNumber ? 'manual' : 'automatic'
    this.#numbering ??= numbering
    if (this.#numbering !== numbering) throw valueError('cannot switch between automatic and manual field numbering')
    const index = isNumber ? Number(name) : this.#automatic++
    const value = this.#args.positional[index]
    if (value !== undefined) return value
    throw new PythonError('IndexError', `replacement index ${index} out of range for positional args tuple`)
  }

  #converted(value: Value, conversion: string | undefined): Value {
    switch (conversion) {
      case undefined:
        return value
      case 's':
        return this.#rt.str(value)
      case 'r':
        return this.#rt.repr(value)
      case 'a':
        return asciiRepr(this.#rt, value)
      default:
        throw valueError(`unknown conversion specifier ${conversion}`)
    }
  }
}

/** The brace that closes the field opened at `start`. */
function fieldEnd(text: string, start: number): number {
  let depth = 0
  let inBracket = false
  for (let at = start; at < text.length; at++) {
    const char = text.charAt(at)
    if (char === '[' && depth === 1) inBracket = true
    else if (char === ']') inBracket = false
    else if (inBracket) continue
    else if (char === '{') depth++
    else if (char === '}' && --depth === 0) return at
  }
  throw valueError("expected '}' before end of string")
}

function fieldParts(field: string): { name: string; conversion: string | undefined; spec: string } {
  const end = field.search(/[!:]/)
  if (end < 0) return { name: field, conversion: undefined, spec: '' }
  const name = field.slice(0, end)
  if (field.charAt(end) === ':') return { name, conversion: undefined, spec: field.slice(end + 1) }
  const conversion = field.charAt(end + 1)
  const rest = field.slice(end + 2)
  if (conversion === '' || (rest !== '' && !rest.startsWith(':')))
    throw valueError("expected ':' after conversion specifier")
  return { name, conversion, spec: rest.slice(1) }
}
