type Attributes = Readonly<Record<string, string | number | undefined>>

/** One SVG element as text. Numbers have at most two decimals; undefined attributes are omitted. */
export function element(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? rounded(value) : escapeXml(String(value))}"`)
    .join('')
  return children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join('')}</${name}>`
}

/** A complete SVG file with its own background. `title` is for screen readers. */
export function picture(
  { width, height, title, background }: { width: number; height: number; title: string; background: string },
  ...children: readonly string[]
): string {
  const drawing = element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'font-family': "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    },
    element('title', {}, escapeXml(title)),
    element('rect', { width, height, fill: background }),
    ...children,
  )
  return `${drawing}\n`
}

/** Translates elements to (x, y). */
export function group(x: number, y: number, ...children: readonly string[]): string {
  return element('g', { transform: `translate(${rounded(x)} ${rounded(y)})` }, ...children)
}

function rounded(value: number): string {
  return String(Math.round(value * 100) / 100)
}

/** Escapes text for XML, and replaces the control characters that XML does not allow. */
export function escapeXml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&apos;',
  }
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff\p{Surrogate}]/gu, '\ufffd')
      .replace(/[&<>"']/g, (character) => names[character] as string)
  )
}

export interface TextStyle {
  readonly size: number
  readonly fill: string
  readonly anchor?: 'start' | 'middle' | 'end' | undefined
  readonly bold?: boolean | undefined
}

/** A line of text whose baseline is at y. */
export function textElement(x: number, y: number, text: string, { size, fill, anchor, bold }: TextStyle): string {
  const attributes = { x, y, fill, 'font-size': size, 'text-anchor': anchor, 'font-weight': bold ? 600 : undefined }
  return element('text', attributes, escapeXml(text))
}

/**
 * Estimates the width of a text in a sans-serif font. The viewer's font is unknown, so this is an upper bound for common
 * fonts, bold included.
 */
export function textWidth(text: string, fontSize: number): number {
  const width = (character: string) => {
    if (/[ijlI.,:;'|!\s]/.test(character)) return 0.38
    if (/[frt()[\]/·-]/.test(character)) return 0.48
    return /[a-z0-9_]/.test(character) && !/[mw]/.test(character) ? 0.66 : 1
  }
  return [...text].reduce((sum, character) => sum + width(character) * fontSize, 0)
}

/** Truncates a text to a width, with an ellipsis. */
export function fitted(text: string, width: number, fontSize: number): string {
  if (textWidth(text, fontSize) <= width) return text
  const characters = [...text]
  while (characters.length > 0 && textWidth(`${characters.join('')}…`, fontSize) > width) characters.pop()
  return `${characters.join('').trimEnd()}…`
}
