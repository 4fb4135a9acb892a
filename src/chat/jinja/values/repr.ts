import { intText } from './numbers'
import { Markup, type Runtime, type Value } from './values'

/** `str(value)`. */
export function toText(rt: Runtime, value: Value): string {
  if (typeof value === 'string') return value
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return toRepr(rt, value)
  return value.str(rt)
}

/** `repr(value)`. */
export function toRepr(rt: Runtime, value: Value): string {
  switch (typeof value) {
    case 'string': {
      const text = textRepr(rt, value)
      rt.budget.text(text.length)
      return text
    }
    case 'number':
    case 'bigint':
      rt.budget.step()
      return intText(value)
    case 'boolean':
      return value ? 'True' : 'False'
  }
  if (value === null) return 'None'
  rt.budget.enter()
  const text = Array.isArray(value) ? `[${reprAll(rt, value)}]` : value.repr(rt)
  rt.budget.leave()
  rt.budget.text(text.length)
  return text
}

/** Items of a list or tuple, comma-separated. */
export function reprAll(rt: Runtime, items: readonly Value[]): string {
  let text = ''
  for (const item of items) {
    rt.budget.step()
    text += text === '' ? toRepr(rt, item) : `, ${toRepr(rt, item)}`
  }
  return text
}

const NEEDS_ESCAPE = /[\\'\p{C}\p{Z}]/u
const ESCAPED = /[\\\p{C}\p{Z}]/gu
const NAMED: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t', ' ': ' ' }

function textRepr(rt: Runtime, text: string): string {
  rt.budget.walk(text.length)
  if (!NEEDS_ESCAPE.test(text)) return `'${text}'`
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const escaped = text.replace(ESCAPED, (char) => NAMED[char] ?? hexEscape(char.codePointAt(0) ?? 0))
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote
}

/** Escape of a non-printable character, as in Python. */
export function hexEscape(code: number): string {
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, '0')}`
  return `\\U${code.toString(16).padStart(8, '0')}`
}

const HTML: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&#39;', '"': '&#34;' }

/** markupsafe's escape(), as text. */
export function escaped(rt: Runtime, value: Value): string {
  return value instanceof Markup ? value.text : escapedText(rt, rt.str(value))
}

export function escapedText(rt: Runtime, text: string): string {
  rt.budget.walk(text.length)
  const result = text.replace(/[&<>'"]/g, (char) => HTML[char] ?? char)
  rt.budget.text(result.length)
  return result
}
