import stringWidth from 'string-width'

/** 3920896 -> "3.74 MiB" */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return unit === 0 ? `${bytes} B` : `${value.toPrecision(value >= 1000 ? 4 : 3)} ${units[unit]}`
}

/** 151936 -> "151,936" */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US')
}

/** 1 file, 3 files */
export function counted(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`
}

/** 12.34 -> "12 ms", 12345 -> "12.3 s" */
export function formatMilliseconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds.toPrecision(3)} ms` : `${(milliseconds / 1000).toPrecision(3)} s`
}

/** Three digits or the whole number, and never more than 6 characters: 5.4321 -> "5.43", 4321.5 -> "4,322", 43215 -> "43.2k" */
export function formatRate(perSecond: number): string {
  if (perSecond < 100) return perSecond.toPrecision(3)
  if (perSecond < 9999.5) return formatCount(Math.round(perSecond))
  const unit = perSecond < 999_500 ? 'k' : 'M'
  const value = perSecond / (unit === 'k' ? 1e3 : 1e6)
  return `${value < 999.5 ? value.toPrecision(3) : formatCount(Math.round(value))}${unit}`
}

/**
 * Aligns rows in columns, two spaces apart, by their width on a terminal (CJK characters and emoji take two columns).
 * Tables wider than `width` wrap the words of the header first, then those of the widest text column. No-break spaces keep
 * words of a cell together and print as spaces.
 * @param alignment one letter a column: `l` or `r`
 * @param width maximum line width; words are never cut
 */
export function formatTable(rows: readonly (readonly string[])[], alignment: string, width = DEFAULT_WIDTH): string {
  const widths = columnWidths(rows, alignment, width)
  const lines = rows.flatMap((row, index) => {
    const cells = widths.map((limit, column) => wrapWords(row[column] ?? '', limit))
    const height = Math.max(...cells.map(({ length }) => length))
    return Array.from({ length: height }, (_, line) =>
      cells
        .map((words, column) => {
          const text = words[index === 0 ? line - height + words.length : line] ?? '' // the head stands on its columns
          const limit = widths[column] ?? 0
          const space = ' '.repeat(Math.max(0, limit - stringWidth(text)))
          return alignment[column] === 'r' ? space + text : text + space
        })
        .join(GAP)
        .trimEnd(),
    )
  })
  return `${lines.join('\n').replaceAll('\u00a0', ' ')}\n`
}

/** Line width when the output is not a terminal. */
export const DEFAULT_WIDTH = 80
const GAP = '  '

function columnWidths(rows: readonly (readonly string[])[], alignment: string, width: number): number[] {
  const [head = [], ...body] = rows
  const widest = (of: readonly (readonly string[])[], column: number, measure: (cell: string) => number) =>
    Math.max(0, ...of.map((row) => measure(row[column] ?? '')))
  const widths = [...alignment].map((_, column) => widest(rows, column, stringWidth))
  const excess = () => widths.reduce((sum, each) => sum + each, GAP.length * (widths.length - 1)) - width
  for (const column of widths.keys()) {
    if (excess() <= 0) return widths
    widths[column] = Math.max(widest(body, column, stringWidth), longestWord(head[column] ?? ''))
  }
  if (excess() <= 0) return widths
  const texts = [...widths.keys()].filter((column) => alignment[column] === 'l')
  const column = texts.reduce((a, b) => ((widths[b] ?? 0) > (widths[a] ?? 0) ? b : a), texts[0] ?? 0)
  widths[column] = Math.max((widths[column] ?? 0) - excess(), widest(rows, column, longestWord))
  return widths
}

function longestWord(text: string): number {
  return Math.max(...text.split(' ').map((word) => stringWidth(word)))
}

/** Wraps words into lines of at most `width` columns (longer words stay whole); all lines but the first get `indent`. */
function wrapWords(text: string, width: number, indent = ''): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last === undefined) lines.push(word)
    else if (stringWidth(last) + 1 + stringWidth(word) <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(indent + word)
  }
  return lines
}

/** A paragraph wrapped to `width` columns, with a hanging indent. */
export function paragraph(text: string, width: number): string {
  return `${wrapWords(text, width, '  ').join('\n')}\n`
}

/**
 * Summarizes the modules of a device map: consecutive layers such as `model.layers.0` to `model.layers.3` become
 * "layers 0-3", their experts "experts of layers 0-3", and other modules lose everything up to the last dot.
 */
export function summarizeModules(modules: readonly string[]): string {
  const parts: string[] = []
  let run: { name: string; first: number; last: number } | undefined
  const endRun = () => {
    if (run) parts.push(run.first === run.last ? `${run.name} ${run.first}` : `${run.name} ${run.first}-${run.last}`)
    run = undefined
  }
  for (const module of modules) {
    const [, layers, number, experts] = /([^.]+)\.(\d+)(\.mlp\.experts)?$/.exec(module) ?? []
    const name = layers !== undefined && experts !== undefined ? `experts of ${layers}` : layers
    if (name !== undefined && run?.name === name && Number(number) === run.last + 1) {
      run.last++
      continue
    }
    endRun()
    if (name !== undefined) run = { name, first: Number(number), last: Number(number) }
    else parts.push(module.slice(module.lastIndexOf('.') + 1))
  }
  endRun()
  return parts.join(', ')
}
