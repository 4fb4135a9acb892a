import { typeError } from '../errors'
import { ordered } from '../values/compare'
import { Dict } from '../values/dict'
import { intText } from '../values/numbers'
import type { Runtime } from '../values/values'
import { Float, sequenceItems, textOf, typeName, type Value } from '../values/values'

/** Options of json.dumps that the `tojson` filter of transformers exposes. */
export interface JsonStyle {
  readonly ensureAscii: boolean
  /** Indentation per level; undefined for a single line. */
  readonly indent: string | undefined
  readonly itemSeparator: string
  readonly keySeparator: string
  readonly sortKeys: boolean
}

/** `json.dumps(value)`. @throws PythonError TypeError for values that JSON cannot represent */
export function toJson(rt: Runtime, value: Value, style: JsonStyle): string {
  return write(rt, value, style, '\n')
}

/** @param lineBreak a line break plus the indentation of the enclosing level */
function write(rt: Runtime, value: Value, style: JsonStyle, lineBreak: string): string {
  rt.budget.step()
  if (value === null) return 'null'
  switch (typeof value) {
    case 'boolean':
      return String(value)
    case 'number':
    case 'bigint':
      return intText(value)
  }
  const text = textOf(value)
  if (text !== undefined) return quoted(rt, text, style.ensureAscii)
  if (value instanceof Float) return floatText(value)
  const items = sequenceItems(value)
  if (items) return enclosed(rt, '[]', items, (item, inner) => write(rt, item, style, inner), style, lineBreak)
  if (value instanceof Dict) {
    rt.budget.text(style.keySeparator.length * value.size)
    const member = ([key, item]: [Value, Value], inner: string) =>
      quoted(rt, keyText(key), style.ensureAscii) + style.keySeparator + write(rt, item, style, inner)
    return enclosed(rt, '{}', members(rt, value, style.sortKeys), member, style, lineBreak)
  }
  throw typeError(`Object of type ${typeName(value)} is not JSON serializable`)
}

function enclosed<T>(
  rt: Runtime,
  brackets: string,
  items: readonly T[],
  written: (item: T, lineBreak: string) => string,
  { indent, itemSeparator }: JsonStyle,
  lineBreak: string,
): string {
  if (items.length === 0) return brackets
  rt.budget.enter()
  const inner = indent === undefined ? '' : lineBreak + indent
  rt.budget.text((inner.length + itemSeparator.length) * items.length)
  const texts = items.map((item) => written(item, inner || lineBreak))
  const text = inner + texts.join(itemSeparator + inner) + (indent === undefined ? '' : lineBreak)
  rt.budget.text(text.length)
  rt.budget.leave()
  return brackets.charAt(0) + text + brackets.charAt(1)
}

function members(rt: Runtime, dict: Dict, sortKeys: boolean): [Value, Value][] {
  const all = [...dict.entries()]
  rt.budget.items(all.length * 2)
  if (!sortKeys) return all
  return all.sort(([a], [b]) => (ordered(rt, '<', a, b) ? -1 : ordered(rt, '<', b, a) ? 1 : 0))
}

function keyText(key: Value): string {
  const text = textOf(key)
  if (text !== undefined) return text
  if (key instanceof Float) return floatText(key)
  if (key === null) return 'null'
  if (typeof key === 'boolean') return String(key)
  if (typeof key === 'number' || typeof key === 'bigint') return intText(key)
  throw typeError(`keys must be str, int, float, bool or None, not ${typeName(key)}`)
}

function floatText(float: Float): string {
  if (Number.isFinite(float.value)) return float.repr()
  return Number.isNaN(float.value) ? 'NaN' : float.value > 0 ? 'Infinity' : '-Infinity'
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: what JSON wants escaped
const CONTROL = /["\\\x00-\x1f]/g
const NOT_ASCII = /[\x7f-\uffff]/g
const NAMED: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
}

function quoted(rt: Runtime, text: string, ensureAscii: boolean): string {
  rt.budget.scan(text.length * 4)
  const sequence = (char: string) => NAMED[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
  let escaped = text.replace(CONTROL, sequence)
  if (ensureAscii) escaped = escaped.replace(NOT_ASCII, sequence)
  rt.budget.text(escaped.length)
  return `"${escaped}"`
}
