/** An element of an SVG file, with unescaped attributes and an absolute position. */
export interface SvgElement {
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
  /** The position of its origin in the picture. */
  readonly origin: readonly [x: number, y: number]
  readonly parents: readonly string[]
  text: string
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/** Parses an SVG file strictly. @throws Error if it is not well-formed */
export function parseSvg(xml: string): SvgElement[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML has no control characters
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(xml)) throw new Error('control character')
  const elements: SvgElement[] = []
  const open: SvgElement[] = []
  let at = 0
  for (const match of xml.matchAll(/<(\/?)([a-zA-Z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g)) {
    const [tag, closing, name = '', attributeText = '', empty] = match
    const between = xml.slice(at, match.index)
    at = match.index + tag.length
    const parent = open.at(-1)
    if (parent) parent.text += unescaped(between)
    else if (between.trim() !== '') throw new Error(`text outside of the root: ${between}`)
    if (closing) {
      if (open.pop()?.name !== name) throw new Error(`</${name}> closes nothing`)
      continue
    }
    if (!parent && elements.length > 0) throw new Error(`a second root <${name}>`)
    const element = { name, attributes: parseAttributes(attributeText), origin: parent?.origin ?? [0, 0], text: '' }
    const [dx, dy] = translation(element.attributes.transform)
    const [x, y] = element.origin
    const placed: SvgElement = { ...element, origin: [x + dx, y + dy], parents: open.map((outer) => outer.name) }
    elements.push(placed)
    if (!empty) open.push(placed)
  }
  if (open.length > 0 || xml.slice(at).trim() !== '') throw new Error(`unclosed, or text at the end: ${xml.slice(at)}`)
  return elements
}

function parseAttributes(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/([\w:-]+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, unescaped(value)])
  if (new Set(pairs.map(([name]) => name)).size < pairs.length) throw new Error(`an attribute twice: ${text}`)
  return Object.fromEntries(pairs)
}

function unescaped(text: string): string {
  if (/[<>]/.test(text)) throw new Error(`unescaped: ${text}`)
  return text.replace(/&(\w*;?)/g, (whole, entity: string) => {
    const character = ENTITIES[entity.replace(';', '')]
    if (character === undefined || !entity.endsWith(';')) throw new Error(`unknown entity ${whole}`)
    return character
  })
}

function translation(transform: string | undefined): readonly [number, number] {
  if (transform === undefined) return [0, 0]
  const [, x, y] = /^translate\((-?[\d.]+) (-?[\d.]+)\)$/.exec(transform) ?? []
  if (x === undefined || y === undefined) throw new Error(`transform ${transform}`)
  return [Number(x), Number(y)]
}

export interface Box {
  readonly left: number
  readonly top: number
  readonly right: number
  readonly bottom: number
  readonly what: string
}

/** The boxes of all rectangles, or of all lines of text, assuming characters 0.6 of the font size wide. */
export function boxes(elements: readonly SvgElement[], name: 'rect' | 'text'): Box[] {
  return elements
    .filter((element) => element.name === name)
    .map(({ attributes, origin: [dx, dy], text }) => {
      const number = (key: string) => Number(attributes[key] ?? 0)
      const x = dx + number('x')
      const y = dy + number('y')
      if (name === 'rect')
        return { left: x, top: y, right: x + number('width'), bottom: y + number('height'), what: '' }
      const size = number('font-size')
      const width = [...text].length * size * 0.6
      const left =
        x - (attributes['text-anchor'] === 'end' ? width : attributes['text-anchor'] === 'middle' ? width / 2 : 0)
      return { left, top: y - 0.75 * size, right: left + width, bottom: y + 0.2 * size, what: text }
    })
}

export function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}
