// What Python's str methods know about characters, where JavaScript's own functions differ.

/** What Python's `\s` and `str.isspace` take, as the inside of a character class. */
export const PYTHON_SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'

/** Digits that are no decimal digits, such as superscripts. */
const OTHER_DIGITS =
  '\\u{b2}-\\u{b3}\\u{b9}\\u{1369}-\\u{1371}\\u{19da}\\u{2070}\\u{2074}-\\u{2079}\\u{2080}-\\u{2089}\\u{2460}-\\u{2468}' +
  '\\u{2474}-\\u{247c}\\u{2488}-\\u{2490}\\u{24ea}\\u{24f5}-\\u{24fd}\\u{24ff}\\u{2776}-\\u{277e}\\u{2780}-\\u{2788}' +
  '\\u{278a}-\\u{2792}\\u{10a40}-\\u{10a43}\\u{10e60}-\\u{10e68}\\u{11052}-\\u{1105a}\\u{1f100}-\\u{1f10a}'

/** Ideographs that stand for numbers. */
const IDEOGRAPHIC_NUMBERS =
  '\\u{3405}\\u{3483}\\u{382a}\\u{3b4d}\\u{4e00}\\u{4e03}\\u{4e07}\\u{4e09}\\u{4e5d}\\u{4e8c}\\u{4e94}\\u{4e96}' +
  '\\u{4ebf}-\\u{4ec0}\\u{4edf}\\u{4ee8}\\u{4f0d}\\u{4f70}\\u{5104}\\u{5146}\\u{5169}\\u{516b}\\u{516d}\\u{5341}' +
  '\\u{5343}-\\u{5345}\\u{534c}\\u{53c1}-\\u{53c4}\\u{56db}\\u{58f1}\\u{58f9}\\u{5e7a}\\u{5efe}-\\u{5eff}' +
  '\\u{5f0c}-\\u{5f0e}\\u{5f10}\\u{62fe}\\u{634c}\\u{67d2}\\u{6f06}\\u{7396}\\u{767e}\\u{8086}\\u{842c}\\u{8cae}' +
  '\\u{8cb3}\\u{8d30}\\u{9621}\\u{9646}\\u{964c}\\u{9678}\\u{96f6}\\u{f96b}\\u{f973}\\u{f978}\\u{f9b2}\\u{f9d1}' +
  '\\u{f9d3}\\u{f9fd}\\u{20001}\\u{20064}\\u{200e2}\\u{20121}\\u{2092a}\\u{20983}\\u{2098c}\\u{2099c}\\u{20aea}' +
  '\\u{20afd}\\u{20b19}\\u{22390}\\u{22998}\\u{23b1b}\\u{2626d}\\u{2f890}'

const only = (set: string) => new RegExp(`^[${set}]+$`, 'u')

export const ONLY = {
  alpha: only('\\p{L}'),
  decimal: only('\\p{Nd}'),
  digit: only(`\\p{Nd}${OTHER_DIGITS}`),
  numeric: only(`\\p{N}${IDEOGRAPHIC_NUMBERS}`),
  alnum: only('\\p{L}\\p{N}'),
  space: only(PYTHON_SPACE),
  ascii: /^[\0-\x7f]*$/,
  printable: /^(?:[^\p{C}\p{Z}]| )*$/u,
  identifier: /^[\p{ID_Start}_][\p{ID_Continue}]*$/u,
} as const

const UPPER = /\p{Uppercase}/u
const LOWER = /\p{Lowercase}/u
const TITLE = /\p{Lt}/u
const CASED = /\p{Cased}/u

export function isUpper(text: string): boolean {
  return UPPER.test(text) && !LOWER.test(text) && !TITLE.test(text)
}

export function isLower(text: string): boolean {
  return LOWER.test(text) && !UPPER.test(text) && !TITLE.test(text)
}

export function isTitle(text: string): boolean {
  let previousCased = false
  let cased = false
  for (const char of text) {
    const begins = UPPER.test(char) || TITLE.test(char)
    const continues = !begins && LOWER.test(char)
    if ((begins && previousCased) || (continues && !previousCased)) return false
    previousCased = begins || continues
    cased ||= previousCased
  }
  return cased
}

export function titled(text: string): string {
  let result = ''
  let at = 0
  let previousCased = false
  for (const char of text) {
    result += previousCased ? lowerWithin(text, at, char) : titleCase(char)
    previousCased = CASED.test(char)
    at += char.length
  }
  return result
}

export function capitalized(text: string): string {
  const first = String.fromCodePoint(text.codePointAt(0) ?? 0)
  return text === '' ? '' : titleCase(first) + text.toLowerCase().slice(first.toLowerCase().length)
}

export function swappedCase(text: string): string {
  let result = ''
  let at = 0
  for (const char of text) {
    result += UPPER.test(char) ? lowerWithin(text, at, char) : LOWER.test(char) ? char.toUpperCase() : char
    at += char.length
  }
  return result
}

/** A character in lower case; a sigma depends on whether its word goes on. */
function lowerWithin(text: string, at: number, char: string): string {
  if (char !== '\u03a3') return char.toLowerCase()
  const before = text.slice(Math.max(0, at - 8), at).toLowerCase()
  return (text.slice(Math.max(0, at - 8), at) + text.slice(at, at + 9)).toLowerCase().charAt(before.length)
}

export function caseFolded(text: string): string {
  let result = ''
  for (const char of text) {
    const isCherokee = /[\u13a0-\u13fd\uab70-\uabbf]/.test(char)
    if (char === '\u0131') result += char
    else if (isCherokee) result += char.toUpperCase()
    else result += char.toUpperCase().toLowerCase().replaceAll('\xdf', 'ss').replaceAll('\u03c2', '\u03c3')
  }
  return result
}

/** Letters that look different at the beginning of a word and in capitals. */
const DIGRAPHS: Readonly<Record<string, string>> = {
  Ǆ: 'ǅ',
  ǅ: 'ǅ',
  ǆ: 'ǅ',
  Ǉ: 'ǈ',
  ǈ: 'ǈ',
  ǉ: 'ǈ',
  Ǌ: 'ǋ',
  ǋ: 'ǋ',
  ǌ: 'ǋ',
  Ǳ: 'ǲ',
  ǲ: 'ǲ',
  ǳ: 'ǲ',
}

function titleCase(char: string): string {
  const code = char.codePointAt(0) ?? 0
  if (DIGRAPHS[char] !== undefined) return DIGRAPHS[char]
  if (code >= 0x10d0 && code <= 0x10ff) return char // Georgian has capitals, but no title case
  if (code >= 0x1f80 && code <= 0x1faf) return String.fromCharCode(code | 8) // Greek with iota subscript
  if (code === 0x1fb3 || code === 0x1fc3 || code === 0x1ff3) return String.fromCharCode(code + 9)
  const [first = '', ...rest] = char.toUpperCase()
  return code === 0x149 ? char.toUpperCase() : first + rest.join('').toLowerCase()
}

const LINE_BREAKS = '\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029'
const LINE = new RegExp(`[^${LINE_BREAKS}]*(\\r\\n|[${LINE_BREAKS}]|$)`, 'gy')

/** As str.splitlines. */
export function splitLines(text: string, keepEnds = false): string[] {
  const lines: string[] = []
  LINE.lastIndex = 0
  while (LINE.lastIndex < text.length) {
    const [line = '', end = ''] = LINE.exec(text) ?? []
    lines.push(keepEnds ? line : line.slice(0, line.length - end.length))
  }
  return lines
}

const SPACE = new RegExp(`[${PYTHON_SPACE}]`)

/** As str.strip and its two halves; without `characters`, of white space. */
export function stripped(text: string, characters: string | undefined, start: boolean, end: boolean): string {
  const set = characters === undefined ? undefined : new Set(characters)
  const strips = (char: string) => (set ? set.has(char) : SPACE.test(char))
  let from = 0
  let to = text.length
  while (start && from < to) {
    const char = String.fromCodePoint(text.codePointAt(from) ?? 0)
    if (!strips(char)) break
    from += char.length
  }
  while (end && to > from) {
    const low = text.charCodeAt(to - 1)
    const isPair = low >= 0xdc00 && low <= 0xdfff && to - 1 > from
    const pair = isPair ? text.slice(to - 2, to) : ''
    const char = isPair && (pair.codePointAt(0) ?? 0) > 0xffff ? pair : text.charAt(to - 1)
    if (!strips(char)) break
    to -= char.length
  }
  return text.slice(from, to)
}

/** The words of a text, at most `limit` of them and the rest, as str.split and str.rsplit without separator. */
export function splitWords(text: string, limit: number, fromEnd: boolean): string[] {
  const words: string[] = []
  let rest = stripped(text, undefined, !fromEnd, fromEnd)
  while (rest !== '') {
    const space = fromEnd ? lastSpace(rest) : rest.search(SPACE)
    if (space < 0 || words.length >= limit) {
      words.push(rest)
      break
    }
    words.push(fromEnd ? rest.slice(space + 1) : rest.slice(0, space))
    rest = stripped(fromEnd ? rest.slice(0, space) : rest.slice(space), undefined, !fromEnd, fromEnd)
  }
  return fromEnd ? words.reverse() : words
}

function lastSpace(text: string): number {
  let at = text.length - 1
  while (at >= 0 && !SPACE.test(text.charAt(at))) at--
  return at
}
