import { PythonError, typeError, valueError } from '../errors'
import { type JsonStyle, toJson } from '../formats/json'
import { percentFormat } from '../formats/percent-format'
import { capitalized, splitLines, stripped } from '../values/characters'
import { codePointCount, unitIndex } from '../values/code-points'
import { truth } from '../values/compare'
import { Dict } from '../values/dict'
import { escaped, escapedText } from '../values/repr'
import { lengthOf } from '../values/slices'
import type { Runtime } from '../values/values'
import { Markup, noAttribute, Tuple, textOf, typeName, Undefined, type Value } from '../values/values'
import { countArgument, textArgument } from './arguments'
import { argumentError, type Filter, filter, getter, softText } from './filter'
import { centered, joined, replaced, strippedTags } from './string-methods'
import { wrapped } from './word-wrap'

/** Text derived from a value; markup if it was markup, as for str methods. */
function mapped(name: string, work: (text: string) => string): [string, Filter] {
  return filter(name, '', (rt, value) => {
    const text = softText(rt, value)
    rt.budget.walk(text.length)
    const result = work(text)
    rt.budget.text(result.length)
    return sameKind(value, result)
  })
}

function sameKind(value: Value, text: string): Value {
  return value instanceof Markup ? new Markup(text) : text
}

const WORD_STARTS = /([-\s({[<]+)/

/** Unlike str.title, words start only after spaces, hyphens and opening brackets. */
function titledWords(text: string): string {
  return text
    .split(WORD_STARTS)
    .filter((piece) => piece !== '')
    .map((piece) => {
      const first = String.fromCodePoint(piece.codePointAt(0) ?? 0)
      return first.toUpperCase() + piece.slice(first.length).toLowerCase()
    })
    .join('')
}

/** Characters of a URL that need no quoting. */
function urlQuoted(rt: Runtime, value: Value, inQuery: boolean): string {
  const text = softText(rt, value)
  rt.budget.walk(text.length)
  let quoted = ''
  for (const byte of Buffer.from(text, 'utf8')) {
    const char = String.fromCharCode(byte)
    const isSafe = /[\w.~-]/.test(char) || (char === '/' && !inQuery)
    if (isSafe) quoted += char
    else quoted += char === ' ' && inQuery ? '+' : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  rt.budget.text(quoted.length)
  return quoted
}

function urlEncoded(rt: Runtime, value: Value): string {
  if (textOf(value) !== undefined || rt.iteratorOf(value) === undefined) return urlQuoted(rt, value, false)
  const pairs = value instanceof Dict ? [...value.entries()] : rt.list(value).map((pair) => rt.list(pair))
  return pairs
    .map(([key, item, ...others]) => {
      if (key === undefined || item === undefined || others.length > 0) {
        throw valueError('wrong number of values to unpack (expected 2)')
      }
      return `${urlQuoted(rt, key, true)}=${urlQuoted(rt, item, true)}`
    })
    .join('&')
}

function indented(rt: Runtime, value: Value, width: Value, first: boolean, blank: boolean): Value {
  const given = textOf(value)
  if (given === undefined) {
    if (Array.isArray(value) || value instanceof Undefined) throw noAttribute(value, 'splitlines')
    throw typeError(`unsupported operand type(s) for +=: '${typeName(value)}' and 'str'`)
  }
  const spaces = () => ' '.repeat(Math.max(0, Math.min(countArgument(width, 4), rt.budget.limits.bytes)))
  const plain = textOf(width) ?? spaces()
  const indentation = value instanceof Markup && !(width instanceof Markup) ? escapedText(rt, plain) : plain
  rt.budget.walk(given.length)
  const lines = splitLines(`${given}\n`)
  rt.budget.items(lines.length * 4)
  rt.budget.text(given.length + (indentation.length + 1) * lines.length)
  const [head = '', ...tail] = lines
  const rest = tail.map((line) => `\n${blank || line !== '' ? indentation : ''}${line}`)
  return sameKind(value, (first ? indentation : '') + head + rest.join(''))
}

/** Truncates if the text is longer than `length` plus the leeway. */
function truncatedText(rt: Runtime, value: Value, args: readonly (Value | undefined)[]): Value {
  const [length, killWords, end, leeway] = args
  const ending = end === undefined ? '...' : textArgument(end, 'end')
  const limit = countArgument(length, 255)
  const slack = leeway === undefined || leeway === null ? 5 : countArgument(leeway, 5)
  const endLength = codePointCount(rt, ending)
  if (limit < endLength) throw new PythonError('AssertionError', `expected length >= ${endLength}, got ${limit}`)
  if (slack < 0) throw new PythonError('AssertionError', `expected leeway >= 0, got ${slack}`)
  const text = textOf(value)
  if (text === undefined) {
    if (lengthOf(rt, value) > limit + slack) throw typeError(`'${typeName(value)}' cannot be truncated`)
    return value
  }
  if (codePointCount(rt, text) <= limit + slack) return value
  const cut = text.slice(0, unitIndex(rt, text, limit - endLength))
  const space = killWords !== undefined && truth(rt, killWords) ? -1 : cut.lastIndexOf(' ')
  return sameKind(value, (space < 0 ? cut : cut.slice(0, space)) + ending)
}

/** Keyword arguments of tojson in transformers. */
function jsonStyle(rt: Runtime, args: readonly (Value | undefined)[]): JsonStyle {
  const [ensureAscii, indent, separators, sortKeys] = args
  const given = separators === undefined || separators === null ? undefined : rt.list(separators)
  if (given !== undefined && given.length !== 2) throw valueError('separators must be a pair')
  const level = indent === undefined || indent === null ? undefined : indent
  const width = level === undefined || textOf(level) !== undefined ? 0 : countArgument(level, 0)
  if (width > 1000) throw valueError('tojson: an indent of more than 1000 characters')
  return {
    ensureAscii: ensureAscii !== undefined && truth(rt, ensureAscii),
    indent: level === undefined ? undefined : (textOf(level) ?? ' '.repeat(Math.max(0, width))),
    itemSeparator: given ? textArgument(given[0], 'the item separator') : level === undefined ? ', ' : ',',
    keySeparator: given ? textArgument(given[1], 'the key separator') : ': ',
    sortKeys: sortKeys !== undefined && truth(rt, sortKeys),
  }
}

function joinedItems(rt: Runtime, value: Value, separator: Value, attribute: Value | undefined): Value {
  const get = getter(rt, attribute)
  const items = rt.list(value).map((item) => (attribute === null ? item : get(item)))
  const isMarkup = rt.autoescape && [separator, ...items].some((item) => item instanceof Markup)
  if (!isMarkup)
    return joined(
      rt,
      softText(rt, separator),
      items.map((item) => rt.str(item)),
    )
  const texts = items.map((item) => escaped(rt, item))
  return new Markup(joined(rt, escaped(rt, separator), texts))
}

function xmlAttributes(rt: Runtime, value: Value, autospace: boolean): Value {
  if (!(value instanceof Dict)) throw noAttribute(value, 'items')
  const attributes: string[] = []
  for (const [key, item] of value.entries()) {
    if (item === null || item instanceof Undefined) continue
    const name = textArgument(key, 'an attribute name')
    if (/[\s/>=]/.test(name)) throw valueError(`Invalid character in attribute name: ${rt.repr(name)}`)
    attributes.push(`${escaped(rt, name)}="${escaped(rt, item)}"`)
  }
  const text = attributes.join(' ')
  return rt.captured(autospace && text !== '' ? ` ${text}` : text)
}

export const TEXT_FILTERS: readonly [string, Filter][] = [
  mapped('upper', (text) => text.toUpperCase()),
  mapped('lower', (text) => text.toLowerCase()),
  mapped('capitalize', capitalized),
  filter('title', '', (rt, value) => {
    const text = softText(rt, value)
    rt.budget.walk(text.length * 2)
    rt.budget.text(text.length * 2)
    return titledWords(text)
  }),
  filter('trim', '[chars]', (rt, value, [chars]) => {
    const text = softText(rt, value)
    const set = chars === undefined || chars === null ? undefined : textArgument(chars, 'strip arg')
    rt.budget.scan(text.length + (set?.length ?? 0))
    const result = stripped(text, set, true, true)
    rt.budget.walk(text.length - result.length)
    return sameKind(value, result)
  }),
  filter('center', '[width]', (rt, value, [width]) =>
    sameKind(value, centered(rt, softText(rt, value), countArgument(width, 80), ' ')),
  ),
  filter('replace', 'old new [count]', (rt, value, [old = null, by = null, count]) => {
    const limit = count === undefined || count === null ? -1 : countArgument(count, -1)
    if (!rt.autoescape) return replaced(rt, rt.str(value), rt.str(old), rt.str(by), limit)
    const isMarkup = value instanceof Markup || old instanceof Markup || by instanceof Markup
    if (!isMarkup) return replaced(rt, softText(rt, value), softText(rt, old), softText(rt, by), limit)
    return new Markup(replaced(rt, escaped(rt, value), softText(rt, old), escaped(rt, by), limit))
  }),
  filter('indent', '[width] [first] [blank]', (rt, value, [width = 4, first = false, blank = false]) =>
    indented(rt, value, width, truth(rt, first), truth(rt, blank)),
  ),
  filter('truncate', '[length] [killwords] [end] [leeway]', truncatedText),
  filter('wordwrap', '[width] [break_long_words] [wrapstring] [break_on_hyphens]', (rt, value, args) => {
    const [width, breakLong = true, joiner, onHyphens = true] = args
    const text = textOf(value)
    if (text === undefined) throw noAttribute(value, 'splitlines')
    rt.budget.walk(text.length * 8)
    const separator = joiner === undefined || joiner === null ? '\n' : textArgument(joiner, 'wrapstring')
    const style = {
      width: countArgument(width, 79),
      breakLongWords: truth(rt, breakLong),
      breakOnHyphens: truth(rt, onHyphens),
    }
    const lines = splitLines(text).map((line) => wrapped(rt, line, style).join(separator))
    rt.budget.text(text.length * (1 + separator.length))
    return lines.join(separator)
  }),
  filter('wordcount', '', (rt, value) => {
    const text = softText(rt, value)
    rt.budget.walk(text.length)
    return text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0
  }),
  filter('join', '[d] [attribute]', (rt, value, [separator = '', attribute = null]) =>
    joinedItems(rt, value, separator, attribute),
  ),
  filter('string', '', (rt, value) => (value instanceof Markup ? value : rt.str(value))),
  filter('tojson', '[ensure_ascii] [indent] [separators] [sort_keys]', (rt, value, args) =>
    toJson(rt, value, jsonStyle(rt, args)),
  ),
  ...['e', 'escape'].map((name) => filter(name, '', (rt, value) => new Markup(escaped(rt, value)))),
  filter('forceescape', '', (rt, value) => new Markup(escapedText(rt, rt.str(value)))),
  filter('safe', '', (rt, value) => (value instanceof Markup ? value : new Markup(rt.str(value)))),
  filter('striptags', '', (rt, value) => strippedTags(rt, softText(rt, value))),
  filter('urlencode', '', (rt, value) => urlEncoded(rt, value)),
  filter('xmlattr', '[autospace]', (rt, value, [autospace = true]) => xmlAttributes(rt, value, truth(rt, autospace))),
  [
    'format',
    (rt, value, args, named) => {
      if (args.length > 0 && named !== undefined) {
        throw argumentError("can't handle positional and keyword arguments at the same time")
      }
      const given = named === undefined ? new Tuple(args) : Dict.fromEntries(named)
      const text = softText(rt, value)
      if (!(value instanceof Markup)) return percentFormat(rt, text, given)
      return new Markup(percentFormat(rt, text, given, (item) => escaped(rt, item)))
    },
  ],
]
