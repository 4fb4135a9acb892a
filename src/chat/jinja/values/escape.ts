import type { Runtime } from '../evaluate/runtime'
import { Markup, type Value } from './values'

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
