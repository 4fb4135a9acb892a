import { formatBytes } from '../common/format'
import type { PlannedStage } from '../placement/plan'
import type { NumberedStage, PlannedDevice } from './planned-devices'
import { element, escapeXml, fitted, group, textElement, textWidth } from './svg'

/** Colors of the picture of a plan. */
export const COLORS = {
  background: '#f4f5fa',
  card: '#ffffff',
  border: '#d5d9e5',
  text: '#1e2433',
  faint: '#5d667c',
  weights: '#5b62e0',
  kvCache: '#14a394',
  states: '#7fcf6b',
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

const PADDING = 16
const BAR_TOP = 44
const BAR_HEIGHT = 20
const MIN_OVERFLOW = 10
const PARTS_TOP = 86 // baseline of the first line below the bar
const LINE_HEIGHT = 18
const WIDEST_PARTS = 316
const STAGES_BELOW_PARTS = 6
const CAPTION_HEIGHT = 20
const STAGE_GAP = 14
const CELL = { width: 25, height: 22, gap: 4 }

/** The height of a device's card at a given width. */
export function cardHeight(planned: PlannedDevice, width: number): number {
  const heights = planned.stages.map((stage) => stageHeight(stage, width - 2 * PADDING))
  return stagesTop(planned) + heights.reduce((sum, height) => sum + height + STAGE_GAP, 0) - STAGE_GAP + PADDING
}

/** A card at (0, 0): the device's name, how full it is and with what, and the modules of each of its stages. */
export function deviceCard(planned: PlannedDevice, width: number, height: number): string {
  const inner = width - 2 * PADDING
  const { device, stages, total, budget } = planned
  const over = budget !== null && total > budget
  const used = budget === null ? `${formatBytes(total)}, no limit` : `${formatBytes(total)} of ${formatBytes(budget)}`
  const nameWidth = inner - textWidth(used, 13) - 8
  const drawings = [
    element('rect', { width, height, rx: 10, fill: COLORS.card, stroke: over ? COLORS.over : COLORS.border }),
    textElement(PADDING, 30, fitted(device, nameWidth, 17), { size: 17, fill: COLORS.text, bold: true }),
    textElement(width - PADDING, 30, used, { size: 13, fill: over ? COLORS.over : COLORS.text, anchor: 'end' }),
    group(PADDING, BAR_TOP, memoryBar(planned, inner)),
    group(PADDING, PARTS_TOP, memoryParts(planned, Math.min(inner, WIDEST_PARTS))),
  ]
  let y = stagesTop(planned)
  for (const stage of stages) {
    drawings.push(group(PADDING, y, stageModules(stage, inner)))
    y += stageHeight(stage, inner) + STAGE_GAP
  }
  return drawings.join('')
}

/** The top of the stages, below the lines of memoryParts(). */
function stagesTop({ states, overhead }: PlannedDevice): number {
  return PARTS_TOP + (4 + Number(states > 0) + Number(overhead > 0)) * LINE_HEIGHT + STAGES_BELOW_PARTS
}

/** The device's memory as a stacked bar; what exceeds the budget is red, right of the budget's mark. */
function memoryBar({ device, weights, kvCache, states, buffers, total, budget }: PlannedDevice, width: number): string {
  const over = budget !== null && total > budget
  const capacity = budget ?? total
  // What exceeds the budget is visible however little it is.
  const end = over ? Math.min((width * budget) / total, width - MIN_OVERFLOW) : width
  const clip = `bar-${device.replace(/\W/g, '-')}`
  const at = (bytes: number) => (bytes >= capacity ? end : (end * bytes) / capacity)
  const rect = (from: number, to: number, fill: string) =>
    to > from ? element('rect', { x: from, width: to - from, height: BAR_HEIGHT, fill }) : ''
  const bars = [
    rect(0, end, COLORS.free),
    rect(0, at(weights), COLORS.weights),
    rect(at(weights), at(weights + kvCache), COLORS.kvCache),
    rect(at(weights + kvCache), at(weights + kvCache + states), COLORS.states),
    rect(at(weights + kvCache + states), at(weights + kvCache + states + buffers), COLORS.buffers),
    rect(at(weights + kvCache + states + buffers), at(total), COLORS.overhead),
    rect(end, width, COLORS.over),
  ]
  return [
    element('clipPath', { id: clip }, element('rect', { width, height: BAR_HEIGHT, rx: 5 })),
    element('g', { 'clip-path': `url(#${clip})` }, ...bars),
    over ? element('rect', { x: end - 1, y: -4, width: 2, height: BAR_HEIGHT + 8, fill: COLORS.text }) : '',
  ].join('')
}

/** One line per part of the memory: its bytes and its share of the budget. */
function memoryParts(planned: PlannedDevice, width: number): string {
  const { weights, kvCache, states, buffers, overhead, total, budget } = planned
  const lines: [name: string, bytes: number, fill: string][] = [
    ['weights', weights, COLORS.weights],
    ['KV cache', kvCache, COLORS.kvCache],
    ['buffers', buffers, COLORS.buffers],
  ]
  if (states > 0) lines.splice(2, 0, ['states', states, COLORS.states])
  if (overhead > 0) lines.push(['CUDA itself', overhead, COLORS.overhead])
  if (budget !== null && total > budget) lines.push(['over the limit', total - budget, COLORS.over])
  else if (budget !== null) lines.push(['free', budget - total, COLORS.free])
  return lines
    .map(([name, bytes, fill], index) => {
      const y = index * LINE_HEIGHT
      const style = { size: 12, fill: fill === COLORS.over ? COLORS.over : COLORS.faint }
      const share = budget ? percent(bytes / budget) : ''
      return [
        element('rect', { y: y - 10, width: 11, height: 11, rx: 3, fill, stroke: COLORS.border }),
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

/** A layer, or its experts. */
const LAYER = /\.(\d+)(\.mlp\.experts)?$/

interface ModuleRow {
  readonly modules: readonly string[]
  /** Numbered modules form a grid; others share a row. */
  readonly numbered: boolean
}

/** Arranges a stage's modules in rows: layers in a grid, consecutive other modules side by side. */
function moduleRows(modules: readonly string[], width: number): ModuleRow[] {
  const columns = gridColumns(width)
  const rows: { modules: string[]; numbered: boolean }[] = []
  for (const module of modules) {
    const numbered = LAYER.test(module)
    const last = rows.at(-1)
    if (last && last.numbered === numbered && (!numbered || last.modules.length < columns)) last.modules.push(module)
    else rows.push({ modules: [module], numbered })
  }
  return rows
}

function stageHeight({ modules }: PlannedStage, width: number): number {
  return CAPTION_HEIGHT + moduleRows(modules, width).length * (CELL.height + CELL.gap) - CELL.gap
}

/** A stage's modules as cells below its caption. A cell's tooltip is the module's full name. */
function stageModules({ modules, read, number, rank, ranks, branch }: NumberedStage, width: number): string {
  const style = { size: 11, fill: COLORS.faint }
  const columns = gridColumns(width)
  const reading = `${formatBytes(read)} a token`
  const caption = `${branch ? 'experts of ' : ''}stage ${number}${ranks > 1 ? `, rank ${rank}` : ''}`
  const cells = moduleRows(modules, width).flatMap(({ modules, numbered }, row) => {
    const inRow = numbered ? columns : modules.length
    const cellWidth = (width - (inRow - 1) * CELL.gap) / inRow
    const y = CAPTION_HEIGHT + row * (CELL.height + CELL.gap)
    return modules.map((module, column) => moduleCell(module, column * (cellWidth + CELL.gap), y, cellWidth, numbered))
  })
  return [
    textElement(0, 10, caption, { ...style, bold: true }),
    textElement(width, 10, ranks > 1 ? reading : `reads ${reading}`, { ...style, anchor: 'end' }),
    ...cells,
  ].join('')
}

function moduleCell(module: string, x: number, y: number, width: number, numbered: boolean): string {
  const label = LAYER.exec(module)?.[1] ?? module.slice(module.lastIndexOf('.') + 1)
  const fill = numbered ? COLORS.layer : COLORS.otherModule
  const style = { size: 11, fill: COLORS.moduleText, anchor: 'middle' } as const
  return element(
    'g',
    {},
    element('title', {}, escapeXml(module)),
    element('rect', { x, y, width, height: CELL.height, rx: 4, fill }),
    textElement(x + width / 2, y + 15, fitted(label, width, style.size), style),
  )
}

function gridColumns(width: number): number {
  return Math.floor((width + CELL.gap) / (CELL.width + CELL.gap))
}
