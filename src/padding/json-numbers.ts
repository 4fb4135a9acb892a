/**
 * Changes numbers in a JSON text and leaves all the rest of it as it is, byte for byte: parsing and printing would turn
 * 1000000.0 into 1000000 and lose digits of large integers.
 */
import { isObject } from '../checkpoint/json'

/** `path` without its last key leads to objects that are all there; the value under the last key is a number. */
export interface NumberChange {
  readonly path: readonly string[]
  readonly value: number
}

const STRING = /"(?:[^"\\]|\\.)*"/y
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y

/** Where the numbers of the text stand, by their path as JSON. */
function numbersOf(text: string): Map<string, { start: number; end: number }> {
  const found = new Map<string, { start: number; end: number }>()
  const open: { key: string | number; isArray: boolean }[] = []
  let keyExpected = false
  for (let at = 0; at < text.length; ) {
    const character = text[at] as string
    const inner = open.at(-1)
    STRING.lastIndex = at
    NUMBER.lastIndex = at
    const string = character === '"' ? STRING.exec(text)?.[0] : undefined
    const number = string === undefined ? NUMBER.exec(text)?.[0] : undefined
    if (string !== undefined && keyExpected && inner) {
      inner.key = JSON.parse(string) as string
      keyExpected = false
    } else if (number !== undefined) {
      found.set(JSON.stringify(open.map(({ key }) => key)), { start: at, end: at + number.length })
    } else if (character === '{' || character === '[') {
      open.push({ key: 0, isArray: character === '[' })
      keyExpected = character === '{'
    } else if (character === '}' || character === ']') {
      open.pop()
      keyExpected = false
    } else if (character === ',' && inner) {
      if (inner.isArray) inner.key = Number(inner.key) + 1
      else keyExpected = true
    }
    at += string?.length ?? number?.length ?? 1
  }
  return found
}

/**
 * @param text - valid JSON
 * @returns the text with new numbers where there are numbers under these paths; other paths are left out
 */
export function withNumbers(text: string, changes: readonly NumberChange[]): string {
  const places = numbersOf(text)
  const edits = changes
    .map(({ path, value }) => ({ place: places.get(JSON.stringify(path)), value }))
    .filter((edit) => edit.place !== undefined)
    .sort((a, b) => (b.place?.start ?? 0) - (a.place?.start ?? 0))
  return edits.reduce((result, { place, value }) => {
    return place ? `${result.slice(0, place.start)}${value}${result.slice(place.end)}` : result
  }, text)
}

/** The number under a path of parsed JSON, if there is one. */
export function numberAt(value: unknown, path: readonly string[]): number | undefined {
  let inner = value
  for (const key of path) inner = isObject(inner) && Object.hasOwn(inner, key) ? inner[key] : undefined
  return typeof inner === 'number' ? inner : undefined
}
