import { ceilDiv } from '../common/arithmetic'
import { formatBytes } from '../common/format'
import { COLORS, cardHeight, deviceCard } from './plan-card'
import { type PlannedDevice, plannedDevices, type ShownPlan } from './planned-devices'
import { element, fitted, group, picture, textElement, textWidth } from './svg'

export interface PictureOptions {
  /** The model. */
  readonly title: string
  /** Shown below the title: context, sequences. */
  readonly subtitle: string
}

const MARGIN = 32
const GAP = 24 // between cards
const FRAME = 6 // around the cards of a group
const HEADER_HEIGHT = 112
const CARDS_IN_ROW = 4
const NARROWEST_CARD = 272
const NARROWEST_CONTENT = 720

/**
 * Draws a plan as SVG: one card per device, in the order of the forward pass, with its memory use and modules; devices
 * that share a stage are framed together. The picture has its own background, so it is readable on any page.
 */
export function planPicture(plan: ShownPlan, options: PictureOptions): string {
  const devices = plannedDevices(plan)
  const columns = columnsFor(devices)
  const cardWidth = Math.max(NARROWEST_CARD, (NARROWEST_CONTENT - (columns - 1) * GAP) / columns)
  const width = 2 * MARGIN + columns * cardWidth + (columns - 1) * GAP

  const oneStageEach = devices.length === plan.stages.length && !plan.stages.some(({ branch }) => branch)
  const drawings: string[] = []
  let y = HEADER_HEIGHT
  for (let first = 0; first < devices.length; first += columns) {
    const row = devices.slice(first, first + columns)
    const height = Math.max(...row.map((device) => cardHeight(device, cardWidth)))
    for (const [column, device] of row.entries()) {
      const x = MARGIN + column * (cardWidth + GAP)
      const next = row[column + 1]
      if (!inOneGroup(row[column - 1], device)) {
        const members = row.filter((other) => inOneGroup(device, other)).length
        if (members > 0) drawings.push(groupFrame(x, y, members * (cardWidth + GAP) - GAP, height))
      }
      drawings.push(group(x, y, deviceCard(device, cardWidth, height)))
      if (oneStageEach && next && !inOneGroup(device, next)) drawings.push(arrow(x + cardWidth + GAP / 2, y + 24))
    }
    y += height + GAP
  }
  const height = y - GAP + MARGIN

  const title = `${options.title}: ${options.subtitle}`
  return picture({ width, height, title, background: COLORS.background }, header(plan, options, width), ...drawings)
}

/** Even rows that keep a group of devices together where it fits in one row. */
function columnsFor(devices: readonly PlannedDevice[]): number {
  const columns = ceilDiv(devices.length, ceilDiv(devices.length, CARDS_IN_ROW))
  const ranks = devices[0]?.stages[0]?.ranks ?? 1
  return ranks <= CARDS_IN_ROW && columns % ranks !== 0 ? Math.min(devices.length, ranks) : columns
}

/** Whether two devices share a stage and have no other. */
function inOneGroup(a: PlannedDevice | undefined, b: PlannedDevice | undefined): boolean {
  const [first, second] = [a, b].map((device) => (device?.stages.length === 1 ? device.stages[0] : undefined))
  return first !== undefined && first.ranks > 1 && first.number === second?.number
}

/** The frame behind the cards of devices that share a stage. */
function groupFrame(x: number, y: number, width: number, height: number): string {
  const size = { width: width + 2 * FRAME, height: height + 2 * FRAME }
  return element('rect', { x: x - FRAME, y: y - FRAME, ...size, rx: 16, fill: COLORS.group })
}

function header(plan: ShownPlan, { title, subtitle }: PictureOptions, width: number): string {
  const verdict = plan.fits ? 'fits' : 'does not fit'
  const badgeWidth = textWidth(verdict, 13) + 24
  const right = width - MARGIN
  const color = plan.fits ? COLORS.fits : COLORS.over
  return [
    textElement(MARGIN, 46, fitted(title, right - MARGIN - badgeWidth - GAP, 22), {
      size: 22,
      fill: COLORS.text,
      bold: true,
    }),
    element('rect', { x: right - badgeWidth, y: 26, width: badgeWidth, height: 26, rx: 13, fill: color }),
    textElement(right - badgeWidth / 2, 43.5, verdict, { size: 13, fill: '#ffffff', anchor: 'middle', bold: true }),
    textElement(MARGIN, 70, fitted(`${subtitle} · ${sizes(plan)}`, right - MARGIN, 14), {
      size: 14,
      fill: COLORS.faint,
    }),
    legend(MARGIN, 84, plannedDevices(plan)),
  ].join('')
}

/** Memory used and available on all devices together. */
function sizes(plan: ShownPlan): string {
  const devices = plannedDevices(plan)
  const total = devices.reduce((sum, device) => sum + device.total, 0)
  const budget = devices.reduce((sum, device) => sum + (device.budget ?? Number.POSITIVE_INFINITY), 0)
  return Number.isFinite(budget) ? `${formatBytes(total)} of ${formatBytes(budget)}` : formatBytes(total)
}

function legend(x: number, y: number, devices: readonly PlannedDevice[]): string {
  const entries = [
    ['weights', COLORS.weights],
    ['KV cache', COLORS.kvCache],
    ...(devices.some(({ states }) => states > 0) ? [['states', COLORS.states]] : []),
    ['buffers', COLORS.buffers],
    ...(devices.some(({ overhead }) => overhead > 0) ? [['CUDA itself', COLORS.overhead]] : []),
    ['free', COLORS.free],
    ['over the limit', COLORS.over],
  ] as [name: string, fill: string][]
  let left = x
  return entries
    .map(([name, fill]) => {
      const at = left
      left += 18 + textWidth(name, 12) + 16
      return (
        element('rect', { x: at, y, width: 12, height: 12, rx: 3, fill, stroke: COLORS.border }) +
        textElement(at + 18, y + 10.5, name, { size: 12, fill: COLORS.faint })
      )
    })
    .join('')
}

/** The way of the hidden states from one device to the next. */
function arrow(x: number, y: number): string {
  const head = `M${x - 4} ${y - 6} l7 6 l-7 6`
  const attributes = { d: head, fill: 'none', stroke: COLORS.faint, 'stroke-width': 2 }
  return element('path', { ...attributes, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' })
}
