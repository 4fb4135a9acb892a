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

/** 5.4321 -> "5.43", 4321.5 -> "4,322" */
export function formatRate(perSecond: number): string {
  return perSecond >= 100 ? formatCount(Math.round(perSecond)) : perSecond.toPrecision(3)
}

/**
 * Rows as lines with columns of equal width, two spaces between them.
 * @param alignment one letter a column: `l` or `r`
 */
export function formatTable(rows: readonly (readonly string[])[], alignment: string): string {
  const widths = [...alignment].map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row) => {
    const cells = widths.map((width, column) => {
      const cell = row[column] ?? ''
      return alignment[column] === 'r' ? cell.padStart(width) : cell.padEnd(width)
    })
    return cells.join('  ').trimEnd()
  })
  return `${lines.join('\n')}\n`
}

/** A paragraph broken into lines of at most `width` characters, all but the first indented. */
export function wrap(text: string, width: number): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line.trim() !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = `  ${word}`
    } else line = line === '' ? word : `${line} ${word}`
  }
  return `${[...lines, line].join('\n')}\n`
}

/**
 * The modules of a device map, shortened for people: `model.layers.0` to `model.layers.3` in a row become
 * "layers 0-3", and other modules lose what stands before the last dot.
 */
export function summarizeModules(modules: readonly string[]): string {
  const parts: string[] = []
  let run: { name: string; first: number; last: number } | undefined
  const endRun = () => {
    if (run) parts.push(run.first === run.last ? `${run.name} ${run.first}` : `${run.name} ${run.first}-${run.last}`)
    run = undefined
  }
  for (const module of modules) {
    const [, name, number] = /([^.]+)\.(\d+)$/.exec(module) ?? []
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
