import { typeError, valueError } from '../errors'
import { formatValue } from '../formats/format-spec'
import { strFormat, strFormatMap } from '../formats/str-format'
import {
  capitalized,
  caseFolded,
  isLower,
  isTitle,
  isUpper,
  ONLY,
  splitLines,
  splitWords,
  stripped,
  swappedCase,
  titled,
} from '../values/characters'
import { codePointCount, codePointIndex, codePoints, unitIndex } from '../values/code-points'
import { truth } from '../values/compare'
import { Dict } from '../values/dict'
import { intOf } from '../values/numbers'
import { escaped } from '../values/repr'
import type { Runtime } from '../values/values'
import { Markup, sequenceItems, Tuple, textOf, typeName, type Value } from '../values/values'
import type { Method } from './arguments'
import { bind, countArgument, parameters, textArgument } from './arguments'

type Bound = readonly (Value | undefined)[]
type TextMethod = (rt: Runtime, text: string, args: Bound, self: Value) => Value

/** A str method, which returns Markup for Markup. */
function method(name: string, signature: string, work: TextMethod): [string, Method] {
  const names = parameters(signature)
  return [
    name,
    (rt, self, args, named) => {
      const text = textOf(self) ?? ''
      rt.budget.scan(text.length)
      const result = work(rt, text, bind(`${name}()`, names, args, named), self)
      return self instanceof Markup ? asMarkup(result) : result
    },
  ]
}

function asMarkup(value: Value): Value {
  if (typeof value === 'string') return new Markup(value)
  if (Array.isArray(value)) return value.map(asMarkup)
  return value instanceof Tuple ? new Tuple(value.items.map(asMarkup)) : value
}

/** A method from text to text. */
function mapped(name: string, work: (text: string) => string): [string, Method] {
  return method(name, '', (rt, text) => {
    rt.budget.walk(text.length)
    const result = work(text)
    rt.budget.text(result.length)
    return result
  })
}

function tested(name: string, work: (text: string) => boolean): [string, Method] {
  return method(name, '', (rt, text) => {
    rt.budget.walk(text.length)
    return work(text)
  })
}

/** str.replace; a negative `count` means all. */
export function replaced(rt: Runtime, text: string, old: string, by: string, count: number): string {
  const limit = count < 0 ? Number.POSITIVE_INFINITY : count
  if (old === '') return interleaved(rt, text, by, limit)
  const pieces: string[] = []
  let at = 0
  let length = 0
  while (pieces.length < limit) {
    const found = rt.find(text, old, at)
    if (found < 0) break
    rt.budget.step()
    pieces.push(text.slice(at, found))
    length += found - at + by.length
    at = found + old.length
  }
  if (pieces.length === 0) return text
  rt.budget.items(pieces.length * 2)
  pieces.push(text.slice(at))
  rt.budget.text(length + text.length - at)
  return pieces.join(by)
}

/** `by` before every character and at the end. */
function interleaved(rt: Runtime, text: string, by: string, limit: number): string {
  const characters = codePoints(rt, text)
  rt.budget.text(text.length + by.length * Math.min(limit, characters.length + 1))
  let result = ''
  characters.forEach((char, index) => {
    result += index < limit ? by + char : char
  })
  return characters.length < limit ? result + by : result
}

/** str.join. @throws PythonError TypeError for items that are not text */
export function joined(rt: Runtime, separator: string, items: readonly Value[]): string {
  const texts = items.map((item, index) => {
    const text = textOf(item)
    if (text === undefined) throw typeError(`sequence item ${index}: expected str instance, ${typeName(item)} found`)
    rt.budget.text(text.length + separator.length)
    return text
  })
  return texts.join(separator)
}

/** str.center: an odd padding has its extra character on the left if the width is odd. */
export function centered(rt: Runtime, text: string, width: number, fill: string): string {
  const missing = Math.max(0, width - codePointCount(rt, text))
  const left = Math.floor(missing / 2) + (missing & width & 1)
  return filled(rt, text, left, missing - left, fill)
}

function filled(rt: Runtime, text: string, left: number, right: number, fill: string): string {
  rt.budget.text(text.length + (left + right) * fill.length)
  return fill.repeat(left) + text + fill.repeat(right)
}

function justified(name: string, left: (missing: number) => number): [string, Method] {
  return method(name, 'width [fill] /', (rt, text, [width, fill]) => {
    const missing = Math.max(0, countArgument(width, 0) - codePointCount(rt, text))
    return filled(rt, text, left(missing), missing - left(missing), fillCharacter(rt, fill))
  })
}

function fillCharacter(rt: Runtime, fill: Value | undefined): string {
  const text = fill === undefined ? ' ' : textArgument(fill, 'the fill character')
  if (codePointCount(rt, text) !== 1) throw typeError('The fill character must be exactly one character long')
  return text
}

/** The slice of a text from `start` to `end`, and its offset, in UTF-16 units. */
function part(rt: Runtime, text: string, start: Value | undefined, end: Value | undefined) {
  if ((start === undefined || start === null) && (end === undefined || end === null))
    return { text, offset: 0, valid: true }
  const length = codePointCount(rt, text)
  const index = (value: Value | undefined, otherwise: number) => {
    if (value === undefined || value === null) return otherwise
    const count = countArgument(value, otherwise)
    return count < 0 ? Math.max(0, count + length) : count
  }
  const [from, to] = [index(start, 0), Math.min(length, index(end, length))]
  const offset = unitIndex(rt, text, Math.min(from, length))
  return { text: text.slice(offset, Math.max(offset, unitIndex(rt, text, to))), offset, valid: from <= to }
}

/** Code-point index of `needle`, or -1. */
function position(rt: Runtime, text: string, [needle, start, end]: Bound, last: boolean): number {
  const wanted = textArgument(needle, 'argument 1')
  const within = part(rt, text, start, end)
  if (!within.valid) return -1
  const found = last ? lastPosition(rt, within.text, wanted) : rt.find(within.text, wanted)
  return found < 0 ? -1 : codePointIndex(rt, text, within.offset + found)
}

function lastPosition(rt: Runtime, text: string, needle: string): number {
  if (needle.length <= 32) return text.lastIndexOf(needle)
  let last = -1
  for (let at = rt.find(text, needle); at >= 0; at = rt.find(text, needle, at + 1)) last = at
  return last
}

function finder(name: string, last: boolean, required: boolean): [string, Method] {
  return method(name, 'sub [start] [end] /', (rt, text, args) => {
    const found = position(rt, text, args, last)
    if (found < 0 && required) throw valueError('substring not found')
    return found
  })
}

function affix(name: string, matches: (text: string, affix: string) => boolean): [string, Method] {
  return method(name, 'affix [start] [end] /', (rt, text, [given, start, end]) => {
    const candidates = given instanceof Tuple ? given.items : [given]
    const within = part(rt, text, start, end)
    return candidates.some((candidate) => {
      const wanted = textArgument(candidate, `${name} first arg`)
      rt.budget.scan(wanted.length)
      return within.valid && matches(within.text, wanted)
    })
  })
}

function strip(name: string, start: boolean, end: boolean): [string, Method] {
  return method(name, '[chars] /', (rt, text, [chars]) => {
    const set = chars === undefined || chars === null ? undefined : textArgument(chars, `${name} arg`)
    rt.budget.scan(set?.length ?? 0)
    const result = stripped(text, set, start, end)
    rt.budget.walk(text.length - result.length)
    return result
  })
}

function split(name: string, fromEnd: boolean): [string, Method] {
  return method(name, '[sep] [maxsplit]', (rt, text, [separator, maxsplit]) => {
    const count = countArgument(maxsplit, -1)
    const limit = count < 0 ? Number.POSITIVE_INFINITY : count
    if (separator === undefined || separator === null) {
      rt.budget.walk(text.length)
      const words = splitWords(text, limit, fromEnd)
      rt.budget.items(words.length * 4)
      return words
    }
    return splitAt(rt, text, textArgument(separator, 'separator'), limit, fromEnd)
  })
}

function splitAt(rt: Runtime, text: string, separator: string, limit: number, fromEnd: boolean): string[] {
  if (separator === '') throw valueError('empty separator')
  const pieces: string[] = []
  if (fromEnd && limit !== Number.POSITIVE_INFINITY) {
    let end = text.length
    while (pieces.length < limit) {
      const found = lastPosition(rt, text.slice(0, end), separator)
      if (found < 0) break
      rt.budget.items(4)
      rt.budget.scan(end - found)
      pieces.push(text.slice(found + separator.length, end))
      end = found
    }
    pieces.push(text.slice(0, end))
    return pieces.reverse()
  }
  let at = 0
  while (pieces.length < limit) {
    const found = rt.find(text, separator, at)
    if (found < 0) break
    rt.budget.items(4)
    pieces.push(text.slice(at, found))
    at = found + separator.length
  }
  pieces.push(text.slice(at))
  return pieces
}

function partition(name: string, last: boolean): [string, Method] {
  return method(name, 'sep /', (rt, text, [given]) => {
    const separator = textArgument(given, 'separator')
    if (separator === '') throw valueError('empty separator')
    const found = last ? lastPosition(rt, text, separator) : rt.find(text, separator)
    rt.budget.text(text.length)
    if (found < 0) return new Tuple(last ? ['', '', text] : [text, '', ''])
    return new Tuple([text.slice(0, found), separator, text.slice(found + separator.length)])
  })
}

function expandedTabs(rt: Runtime, text: string, size: number): string {
  rt.budget.walk(text.length)
  let result = ''
  let column = 0
  for (const char of text) {
    if (char !== '\t') {
      result += char
      column = char === '\n' || char === '\r' ? 0 : column + 1
      continue
    }
    const spaces = size > 0 ? size - (column % size) : 0
    rt.budget.text(spaces)
    result += ' '.repeat(spaces)
    column += spaces
  }
  rt.budget.text(result.length)
  return result
}

/** @throws PythonError for invalid replacements of translate() */
function translated(rt: Runtime, text: string, table: Value | undefined): string {
  let result = ''
  for (const char of codePoints(rt, text)) {
    const code = char.codePointAt(0) ?? 0
    const entry = table instanceof Dict ? table.get(rt, code) : sequenceItems(table ?? null)?.[code]
    const int = entry === undefined ? undefined : intOf(entry)
    const by = entry === undefined ? char : entry === null ? '' : (textOf(entry) ?? undefined)
    if (by === undefined && int === undefined) throw typeError('character mapping must return integer, None or str')
    const piece = by ?? characterOf(Number(int))
    rt.budget.text(piece.length)
    result += piece
  }
  return result
}

/** @throws PythonError ValueError */
function characterOf(code: number): string {
  if (code < 0 || code > 0x10ffff) throw valueError('character mapping must be in range(0x110000)')
  return String.fromCodePoint(code)
}

function translationTable(rt: Runtime, [from, to, removed]: Bound): Value {
  const table = new Dict()
  const code = (key: Value) => {
    const text = textOf(key)
    if (text === undefined) return key
    if (codePointCount(rt, text) !== 1) throw valueError('string keys in translate table must be of length 1')
    return text.codePointAt(0) ?? 0
  }
  if (to === undefined) {
    if (!(from instanceof Dict)) throw typeError('if you give only one argument to maketrans it must be a dict')
    for (const [key, value] of from.entries()) table.set(rt, code(key), value)
    return table
  }
  const keys = codePoints(rt, textArgument(from, 'first maketrans argument'))
  const values = codePoints(rt, textArgument(to, 'second maketrans argument'))
  if (keys.length !== values.length) throw valueError('the first two maketrans arguments must have equal length')
  keys.forEach((key, index) => {
    table.set(rt, code(key), code(values[index] ?? ''))
  })
  const dropped = removed === undefined ? [] : codePoints(rt, textArgument(removed, 'third maketrans argument'))
  for (const key of dropped) table.set(rt, code(key), null)
  return table
}

/** How format() of Markup renders a value: escaped, unless it is markup. */
function shownEscaped(rt: Runtime, value: Value, spec: string): string {
  if (value instanceof Markup) {
    if (spec !== '') throw valueError(`unsupported format specification for Markup: ${spec}`)
    return value.text
  }
  return escaped(rt, formatValue(rt, value, spec))
}

const formatting: [string, Method][] = [
  [
    'format',
    (rt, self, args, named) => {
      const isMarkup = self instanceof Markup
      const text = strFormat(rt, textOf(self) ?? '', args, named, isMarkup ? shownEscaped : formatValue)
      return isMarkup ? new Markup(text) : text
    },
  ],
  method('format_map', 'mapping /', (rt, text, [mapping], self) =>
    strFormatMap(rt, text, mapping ?? null, self instanceof Markup ? shownEscaped : formatValue),
  ),
]

export const STRING_METHODS: ReadonlyMap<string, Method> = new Map([
  ...formatting,
  mapped('capitalize', capitalized),
  mapped('casefold', caseFolded),
  mapped('lower', (text) => text.toLowerCase()),
  mapped('upper', (text) => text.toUpperCase()),
  mapped('swapcase', swappedCase),
  mapped('title', titled),
  tested(
    'isalnum',
    (text) =>
      ONLY.alnum.test(text) ||
      (text !== '' && [...text].every((char) => ONLY.alpha.test(char) || ONLY.numeric.test(char))),
  ),
  tested('isalpha', (text) => ONLY.alpha.test(text)),
  tested('isascii', (text) => ONLY.ascii.test(text)),
  tested('isdecimal', (text) => ONLY.decimal.test(text)),
  tested('isdigit', (text) => ONLY.digit.test(text)),
  tested('isidentifier', (text) => ONLY.identifier.test(text)),
  tested('islower', isLower),
  tested('isnumeric', (text) => ONLY.numeric.test(text)),
  tested('isprintable', (text) => ONLY.printable.test(text)),
  tested('isspace', (text) => ONLY.space.test(text)),
  tested('istitle', isTitle),
  tested('isupper', isUpper),
  method('center', 'width [fill] /', (rt, text, [width, fill]) =>
    centered(rt, text, countArgument(width, 0), fillCharacter(rt, fill)),
  ),
  justified('ljust', () => 0),
  justified('rjust', (missing) => missing),
  method('zfill', 'width /', (rt, text, [width]) => {
    const missing = Math.max(0, countArgument(width, 0) - codePointCount(rt, text))
    const sign = /^[+-]/.test(text) ? text.charAt(0) : ''
    return sign + filled(rt, text.slice(sign.length), missing, 0, '0')
  }),
  method('count', 'sub [start] [end] /', (rt, text, [sub, start, end]) => {
    const wanted = textArgument(sub, 'argument 1')
    const within = part(rt, text, start, end)
    if (!within.valid) return 0
    if (wanted === '') return codePointCount(rt, within.text) + 1
    let count = 0
    for (let at = rt.find(within.text, wanted); at >= 0; at = rt.find(within.text, wanted, at + wanted.length)) {
      rt.budget.step()
      count++
    }
    return count
  }),
  finder('find', false, false),
  finder('rfind', true, false),
  finder('index', false, true),
  finder('rindex', true, true),
  affix('startswith', (text, start) => text.startsWith(start)),
  affix('endswith', (text, end) => text.endsWith(end)),
  strip('strip', true, true),
  strip('lstrip', true, false),
  strip('rstrip', false, true),
  split('split', false),
  split('rsplit', true),
  method('splitlines', '[keepends]', (rt, text, [keepEnds]) => {
    rt.budget.walk(text.length)
    const lines = splitLines(text, keepEnds !== undefined && truth(rt, keepEnds))
    rt.budget.items(lines.length * 4)
    return lines
  }),
  partition('partition', false),
  partition('rpartition', true),
  method('removeprefix', 'prefix /', (_rt, text, [prefix]) => {
    const start = textArgument(prefix, 'removeprefix() argument')
    return text.startsWith(start) ? text.slice(start.length) : text
  }),
  method('removesuffix', 'suffix /', (_rt, text, [suffix]) => {
    const end = textArgument(suffix, 'removesuffix() argument')
    return end !== '' && text.endsWith(end) ? text.slice(0, -end.length) : text
  }),
  method('replace', 'old new [count] /', (rt, text, [old, by, count], self) => {
    const replacement = self instanceof Markup ? escaped(rt, by ?? null) : textArgument(by, 'replace() argument 2')
    return replaced(rt, text, textArgument(old, 'replace() argument 1'), replacement, countArgument(count, -1))
  }),
  method('join', 'iterable /', (rt, text, [iterable], self) => {
    const items = rt.list(iterable ?? null)
    return joined(rt, text, self instanceof Markup ? items.map((item) => escaped(rt, item)) : items)
  }),
  method('expandtabs', '[tabsize]', (rt, text, [size]) => expandedTabs(rt, text, countArgument(size, 8))),
  method('translate', 'table /', (rt, text, [table]) => translated(rt, text, table)),
  method('maketrans', 'x [y] [z] /', (rt, _text, args) => translationTable(rt, args)),
])

/** Methods of Markup that str lacks. */
export const MARKUP_METHODS: ReadonlyMap<string, Method> = new Map<string, Method>([
  ['striptags', (rt, self) => strippedTags(rt, textOf(self) ?? '')],
  ['unescape', (rt, self) => unescaped(rt, textOf(self) ?? '')],
])

/** Removes comments and tags and collapses white space. */
export function strippedTags(rt: Runtime, text: string): string {
  rt.budget.walk(text.length)
  let plain = text
  for (const [open, close] of [
    ['<!--', '-->'],
    ['<', '>'],
  ] as const) {
    const pieces: string[] = []
    let at = 0
    for (let start = plain.indexOf(open); start >= 0; start = plain.indexOf(open, at)) {
      const end = plain.indexOf(close, start)
      if (end < 0) break
      rt.budget.items(4)
      pieces.push(plain.slice(at, start))
      at = end + close.length
    }
    plain = pieces.join('') + plain.slice(at)
  }
  return unescaped(rt, splitWords(plain, Number.POSITIVE_INFINITY, false).join(' '))
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\xa0' }

function unescaped(rt: Runtime, text: string): string {
  rt.budget.walk(text.length)
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(\w{1,8}));/g, (all, decimal, hex, name: string) => {
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal)
    if (name !== undefined) return ENTITIES[name] ?? all
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd'
  })
}
