import { formatBytes } from '../cli/format'
import type { NumberedStage, PlannedDevice } from '../cli/planned-devices'
import type { PlannedStage } from '../placement/plan'
import { element, escapeXml, fitted, group, textElement, textWidth } from './svg'

/** Colors of the picture of a plan. */
export const colors = {
  background: '#f4f5fa',
  card: '#ffffff',
  border: '#d5d9e5',
  text: '#1e2433',
  faint: '#5d667c',
  weights: '#5b62e0',
  kvCache: '#14a394',
  buffers: '#efa52b',
  overhead: '#8a92a8',
  free: '#e6e9f1',
  over: '#d92638',
  fits: '#14804a',
  group: '#e3e6f1',
  layer: '#e6e8fd',
  otherModule: '#c6cbfa',
  moduleText: '#2c2f7c',
} as const

const padding = 16
const barTop = 44
const barHeight = 20
const leastOverflow = 10
const partsTop = 86 // baseline of the first line below the bar
const lineHeight = 18
const widestParts = 316
const stagesBelowParts = 6
const captionHeight = 20
const stageGap = 14
const cell = { width: 25, height: 22, gap: 4 }

/** The height of a device's card of a given width. */
export function cardHeight(planned: PlannedDevice, width: number): number {
  const heights = planned.stages.map((stage) => stageHeight(stage, width - 2 * padding))
  return stagesTop(planned) + heights.reduce((sum, height) => sum + height + stageGap, 0) - stageGap + padding
}

/** A card at (0, 0): the device's name, how full it is and with what, and the modules of each of its stages. */
export function deviceCard(planned: PlannedDevice, width: number, height: number): string {
  const inner = width - 2 * padding
  const { device, stages, total, budget } = planned
  const over = budget !== null && total > budget
  const used = budget === null ? `${formatBytes(total)}, no limit` : `${formatBytes(total)} of ${formatBytes(budget)}`
  const nameWidth = inner - textWidth(used, 13) - 8
  const drawings = [
    element('rect', { width, height, rx: 10, fill: colors.card, stroke: over ? colors.over : colors.border }),
    textElement(padding, 30, fitted(device, nameWidth, 17), { size: 17, fill: colors.text, bold: true }),
    textElement(width - padding, 30, used, { size: 13, fill: over ? colors.over : colors.text, anchor: 'end' }),
    group(padding, barTop, memoryBar(planned, inner)),
    group(padding, partsTop, memoryParts(planned, Math.min(inner, widestParts))),
  ]
  let y = stagesTop(planned)
  for (const stage of stages) {
    drawings.push(group(padding, y, stageModules(stage, inner)))
    y += stageHeight(stage, inner) + stageGap
  }
  return drawings.join('')
}

/** Where the stages begin: below the lines of memoryParts(). */
function stagesTop({ overhead }: PlannedDevice): number {
  return partsTop + (overhead > 0 ? 5 : 4) * lineHeight + stagesBelowParts
}

/** One bar of all that the device holds; what exceeds the budget is red and lies behind the budget's mark. */
function memoryBar({ device, weights, kvCache, buffers, total, budget }: PlannedDevice, width: number): string {
  const over = budget !== null && total > budget
  const capacity = budget ?? total
  // However little it is, what exceeds the budget is to be seen.
  const end = over ? Math.min((width * budget) / total, width - leastOverflow) : width
  const clip = `bar-${device.replace(/\W/g, '-')}`
  const at = (bytes: number) => (bytes >= capacity ? end : (end * bytes) / capacity)
  const rect = (from: number, to: number, fill: string) =>
    to > from ? element('rect', { x: from, width: to - from, height: barHeight, fill }) : ''
  const bars = [
    rect(0, end, colors.free),
    rect(0, at(weights), colors.weights),
    rect(at(weights), at(weights + kvCache), colors.kvCache),
    rect(at(weights + kvCache), at(weights + kvCache + buffers), colors.buffers),
    rect(at(weights + kvCache + buffers), at(total), colors.overhead),
    rect(end, width, colors.over),
  ]
  return [
    element('clipPath', { id: clip }, element('rect', { width, height: barHeight, rx: 5 })),
    element('g', { 'clip-path': `url(#${clip})` }, ...bars),
    over ? element('rect', { x: end - 1, y: -4, width: 2, height: barHeight + 8, fill: colors.text }) : '',
  ].join('')
}

/** A line for each part of the memory: its bytes, and its share of the budget. */
function memoryParts({ weights, kvCache, buffers, overhead, total, budget }: PlannedDevice, width: number): string {
  const lines: [name: string, bytes: number, fill: string][] = [
    ['weights', weights, colors.weights],
    ['KV cache', kvCache, colors.kvCache],
    ['buffers', buffers, colors.buffers],
  ]
  if (overhead > 0) lines.push(['CUDA itself', overhead, colors.overhead])
  if (budget !== null && total > budget) lines.push(['over the limit', total - budget, colors.over])
  else if (budget !== null) lines.push(['free', budget - total, colors.free])
  return lines
    .map(([name, bytes, fill], index) => {
      const y = index * lineHeight
      const style = { size: 12, fill: fill === colors.over ? colors.over : colors.faint }
      const share = budget ? percent(bytes / budget) : ''
      return [
        element('rect', { y: y - 10, width: 11, height: 11, rx: 3, fill, stroke: colors.border }),
        textElement(18, y, name, style),
        textElement(width - 48, y, formatBytes(bytes), { ...style, anchor: 'end' }),
        textElement(width, y, share, { ...style, anchor: 'end' }),
      ].join('')
    })
    .join('')
}

function percent(share: number): string {
  return share < 10 ? `${Math.round(100 * share)} %` : '999+ %'
}

interface ModuleRow {
  readonly modules: readonly string[]
  /** Numbered modules stand in a grid; others share a row. */
  readonly numbered: boolean
}

/** The rows in which a stage's modules stand: layers in a grid, other modules that follow one another side by side. */
function moduleRows(modules: readonly string[], width: number): ModuleRow[] {
  const columns = gridColumns(width)
  const rows: { modules: string[]; numbered: boolean }[] = []
  for (const module of modules) {
    const numbered = /\.\d+$/.test(module)
    const last = rows.at(-1)
    if (last && last.numbered === numbered && (!numbered || last.modules.length < columns)) last.modules.push(module)
    else rows.push({ modules: [module], numbered })
  }
  return rows
}

function stageHeight({ modules }: PlannedStage, width: number): number {
  return captionHeight + moduleRows(modules, width).length * (cell.height + cell.gap) - cell.gap
}

/** A stage's modules as cells below its caption. A cell's tooltip is the module's full name. */
function stageModules({ modules, read, number, rank, ranks }: NumberedStage, width: number): string {
  const style = { size: 11, fill: colors.faint }
  const columns = gridColumns(width)
  const reading = `${formatBytes(read)} a token`
  const cells = moduleRows(modules, width).flatMap(({ modules, numbered }, row) => {
    const inRow = numbered ? columns : modules.length
    const cellWidth = (width - (inRow - 1) * cell.gap) / inRow
    const y = captionHeight + row * (cell.height + cell.gap)
    return modules.map((module, column) => moduleCell(module, column * (cellWidth + cell.gap), y, cellWidth, numbered))
  })
  return [
    textElement(0, 10, ranks > 1 ? `stage ${number}, rank ${rank}` : `stage ${number}`, { ...style, bold: true }),
    textElement(width, 10, ranks > 1 ? reading : `reads ${reading}`, { ...style, anchor: 'end' }),
    ...cells,
  ].join('')
}

function moduleCell(module: string, x: number, y: number, width: number, numbered: boolean): string {
  const label = module.slice(module.lastIndexOf('.') + 1)
  const fill = numbered ? colors.layer : colors.otherModule
  const style = { size: 11, fill: colors.moduleText, anchor: 'middle' } as const
  return element(
    'g',
    {},
    element('title', {}, escapeXml(module)),
    element('rect', { x, y, width, height: cell.height, rx: 4, fill }),
    textElement(x + width / 2, y + 15, fitted(label, width, style.size), style),
  )
}

function gridColumns(width: number): number {
  return Math.floor((width + cell.gap) / (cell.width + cell.gap))
}
