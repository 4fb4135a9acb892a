import { formatBytes } from '../cli/format'
import { type PlannedDevice, plannedDevices, type ShownPlan } from '../cli/planned-devices'
import { cardHeight, colors, deviceCard } from './plan-card'
import { element, fitted, group, picture, textElement, textWidth } from './svg'

export interface PictureOptions {
  /** What is placed. */
  readonly title: string
  /** Said below the title: context, sequences. */
  readonly subtitle: string
}

const margin = 32
const gap = 24 // between cards
const frame = 6 // around the cards of a group
const headerHeight = 112
const cardsInRow = 4
const narrowestCard = 272
const narrowestContent = 720

/**
 * A plan as an SVG picture: for each device a card with how full it is and the modules that it holds, in the order of
 * the forward pass; devices that compute a stage together stand in one frame. It has its own background, so that it is
 * readable wherever it is shown.
 */
export function planPicture(plan: ShownPlan, options: PictureOptions): string {
  const devices = plannedDevices(plan)
  const columns = columnsFor(devices)
  const cardWidth = Math.max(narrowestCard, (narrowestContent - (columns - 1) * gap) / columns)
  const width = 2 * margin + columns * cardWidth + (columns - 1) * gap

  const oneStageEach = devices.length === plan.stages.length
  const drawings: string[] = []
  let y = headerHeight
  for (let first = 0; first < devices.length; first += columns) {
    const row = devices.slice(first, first + columns)
    const height = Math.max(...row.map((device) => cardHeight(device, cardWidth)))
    for (const [column, device] of row.entries()) {
      const x = margin + column * (cardWidth + gap)
      const next = row[column + 1]
      if (!inOneGroup(row[column - 1], device)) {
        const members = row.filter((other) => inOneGroup(device, other)).length
        if (members > 0) drawings.push(groupFrame(x, y, members * (cardWidth + gap) - gap, height))
      }
      drawings.push(group(x, y, deviceCard(device, cardWidth, height)))
      if (oneStageEach && next && !inOneGroup(device, next)) drawings.push(arrow(x + cardWidth + gap / 2, y + 24))
    }
    y += height + gap
  }
  const height = y - gap + margin

  const title = `${options.title}: ${options.subtitle}`
  return picture({ width, height, title, background: colors.background }, header(plan, options, width), ...drawings)
}

/** As many in each row, and no group of devices in two rows if it fits in one. */
function columnsFor(devices: readonly PlannedDevice[]): number {
  const columns = Math.ceil(devices.length / Math.ceil(devices.length / cardsInRow))
  const ranks = devices[0]?.stages[0]?.ranks ?? 1
  return ranks <= cardsInRow && columns % ranks !== 0 ? Math.min(devices.length, ranks) : columns
}

/** Whether two devices compute one stage together, and no other. */
function inOneGroup(a: PlannedDevice | undefined, b: PlannedDevice | undefined): boolean {
  const [first, second] = [a, b].map((device) => (device?.stages.length === 1 ? device.stages[0] : undefined))
  return first !== undefined && first.ranks > 1 && first.number === second?.number
}

/** What stands behind the cards of devices that compute a stage together. */
function groupFrame(x: number, y: number, width: number, height: number): string {
  const size = { width: width + 2 * frame, height: height + 2 * frame }
  return element('rect', { x: x - frame, y: y - frame, ...size, rx: 16, fill: colors.group })
}

function header(plan: ShownPlan, { title, subtitle }: PictureOptions, width: number): string {
  const verdict = plan.fits ? 'fits' : 'does not fit'
  const badgeWidth = textWidth(verdict, 13) + 24
  const right = width - margin
  const color = plan.fits ? colors.fits : colors.over
  return [
    textElement(margin, 46, fitted(title, right - margin - badgeWidth - gap, 22), {
      size: 22,
      fill: colors.text,
      bold: true,
    }),
    element('rect', { x: right - badgeWidth, y: 26, width: badgeWidth, height: 26, rx: 13, fill: color }),
    textElement(right - badgeWidth / 2, 43.5, verdict, { size: 13, fill: '#ffffff', anchor: 'middle', bold: true }),
    textElement(margin, 70, fitted(`${subtitle} · ${sizes(plan)}`, right - margin, 14), {
      size: 14,
      fill: colors.faint,
    }),
    legend(margin, 84, plannedDevices(plan)),
  ].join('')
}

/** How much of how much memory all devices together use. */
function sizes(plan: ShownPlan): string {
  const devices = plannedDevices(plan)
  const total = devices.reduce((sum, device) => sum + device.total, 0)
  const budget = devices.reduce((sum, device) => sum + (device.budget ?? Number.POSITIVE_INFINITY), 0)
  return Number.isFinite(budget) ? `${formatBytes(total)} of ${formatBytes(budget)}` : formatBytes(total)
}

function legend(x: number, y: number, devices: readonly PlannedDevice[]): string {
  const entries = [
    ['weights', colors.weights],
    ['KV cache', colors.kvCache],
    ['buffers', colors.buffers],
    ...(devices.some(({ overhead }) => overhead > 0) ? [['CUDA itself', colors.overhead]] : []),
    ['free', colors.free],
    ['over the limit', colors.over],
  ] as [name: string, fill: string][]
  let left = x
  return entries
    .map(([name, fill]) => {
      const at = left
      left += 18 + textWidth(name, 12) + 16
      return (
        element('rect', { x: at, y, width: 12, height: 12, rx: 3, fill, stroke: colors.border }) +
        textElement(at + 18, y + 10.5, name, { size: 12, fill: colors.faint })
      )
    })
    .join('')
}

/** Where the hidden states go from one device to the next. */
function arrow(x: number, y: number): string {
  const head = `M${x - 4} ${y - 6} l7 6 l-7 6`
  const attributes = { d: head, fill: 'none', stroke: colors.faint, 'stroke-width': 2 }
  return element('path', { ...attributes, 'stroke-linecap': 'round', 'stroke-linejoin': 'round' })
}
