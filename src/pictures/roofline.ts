import { type ScaleLogarithmic, scaleLog } from 'd3-scale'
import { COLORS } from './plan-card'
import { element, escapeXml, fitted, group, picture, textElement } from './svg'

export interface Roofline {
  readonly title: string
  readonly subtitle: string
  /** The two roofs: memory bandwidth and peak compute. */
  readonly gigabytesPerSecond: number
  readonly memoryLabel: string
  readonly teraflops: number
  readonly rateLabel: string
  /** The legend: what colors and marks stand for. */
  readonly colors: readonly string[]
  readonly marks: readonly string[]
  readonly series: readonly {
    readonly color: number
    readonly mark: number
    readonly points: readonly { readonly flopsPerByte: number; readonly teraflops: number; readonly label: string }[]
  }[]
}

const WIDTH = 960
const HEIGHT = 600
const MARGIN = 32
const PLOT = { left: 84, top: 96, width: 620, height: 420 }
const LEGEND_LEFT = PLOT.left + PLOT.width + 28
const LINE_COLORS = [COLORS.weights, COLORS.kvCache, COLORS.buffers]

/**
 * A roofline plot: compute rates over arithmetic intensity on log-log axes, below the device's memory bandwidth and peak
 * compute.
 */
export function rooflinePicture(roofline: Roofline): string {
  const { title, subtitle, series } = roofline
  const points = series.flatMap((line) => line.points)
  const ridge = (roofline.teraflops * 1000) / roofline.gigabytesPerSecond // flops per byte where the roofs meet
  const x = axis([...points.map(({ flopsPerByte }) => flopsPerByte), ridge, ridge * 4], [0, PLOT.width])
  const y = axis([...points.map(({ teraflops }) => teraflops), roofline.teraflops * 1.5], [PLOT.height, 0])
  return picture(
    { width: WIDTH, height: HEIGHT, title: `${title}: ${subtitle}`, background: COLORS.background },
    textElement(MARGIN, 46, fitted(title, WIDTH - 2 * MARGIN, 22), { size: 22, fill: COLORS.text, bold: true }),
    textElement(MARGIN, 70, fitted(subtitle, WIDTH - 2 * MARGIN, 14), { size: 14, fill: COLORS.faint }),
    group(
      PLOT.left,
      PLOT.top,
      element('rect', { width: PLOT.width, height: PLOT.height, rx: 6, fill: COLORS.card, stroke: COLORS.border }),
      grid(x, y),
      roofs(roofline, ridge, x, y),
      ...series.map(({ color, mark, points }) => {
        const fill = LINE_COLORS[color % LINE_COLORS.length] as string
        const places = points.map(({ flopsPerByte, teraflops }) => [x(flopsPerByte), y(teraflops)] as const)
        const path = places
          .map(([left, top], i) => `${i === 0 ? 'M' : 'L'}${left.toFixed(1)} ${top.toFixed(1)}`)
          .join(' ')
        return [
          element('path', { d: path, fill: 'none', stroke: fill, 'stroke-width': 1.2, opacity: 0.45 }),
          ...points.map(({ label, ...point }) => marker(mark, x(point.flopsPerByte), y(point.teraflops), fill, label)),
        ].join('')
      }),
    ),
    textElement(PLOT.left + PLOT.width / 2, PLOT.top + PLOT.height + 46, 'FLOP per byte', {
      size: 13,
      fill: COLORS.faint,
      anchor: 'middle',
    }),
    element(
      'g',
      { transform: `translate(26 ${PLOT.top + PLOT.height / 2}) rotate(-90)` },
      textElement(0, 0, 'TFLOP/s', { size: 13, fill: COLORS.faint, anchor: 'middle' }),
    ),
    legend(roofline),
  )
}

type LogScale = ScaleLogarithmic<number, number>

/** A log axis from the power of ten at or below the smallest value to just above the largest, mapped to pixels. */
function axis(values: readonly number[], pixels: readonly [number, number]): LogScale {
  const low = 10 ** Math.floor(Math.log10(Math.min(...values)))
  return scaleLog([low, Math.max(...values, low * 10) * 1.15], pixels)
}

/** Labeled grid lines at powers of ten. */
function grid(x: LogScale, y: LogScale): string {
  const lines = { stroke: COLORS.free, 'stroke-width': 1 }
  const style = { size: 12, fill: COLORS.faint }
  const powers = (scale: LogScale) => scale.ticks().filter((tick) => Math.log10(tick) % 1 === 0)
  return [
    ...powers(x).flatMap((tick) => [
      element('line', { x1: x(tick), x2: x(tick), y1: 0, y2: PLOT.height, ...lines }),
      textElement(x(tick), PLOT.height + 20, String(tick), { ...style, anchor: 'middle' }),
    ]),
    ...powers(y).flatMap((tick) => [
      element('line', { x1: 0, x2: PLOT.width, y1: y(tick), y2: y(tick), ...lines }),
      textElement(-10, y(tick) + 4, String(tick), { ...style, anchor: 'end' }),
    ]),
  ].join('')
}

function roofs(
  { gigabytesPerSecond, memoryLabel, teraflops, rateLabel }: Roofline,
  ridge: number,
  x: LogScale,
  y: LogScale,
): string {
  // The memory roof enters from the left or from below.
  const terabytes = gigabytesPerSecond / 1000
  const enters = Math.max(x.domain()[0] as number, (y.domain()[0] as number) / terabytes)
  const [x1, y1] = [x(enters), y(enters * terabytes)]
  const [x2, y2] = [x(ridge), y(teraflops)]
  const line = { fill: 'none', stroke: COLORS.text, 'stroke-width': 2, 'stroke-linejoin': 'round' }
  const angle = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI
  const style = { size: 12, fill: COLORS.text, bold: true }
  const middle = { x: x1 + 0.35 * (x2 - x1), y: y1 + 0.35 * (y2 - y1) }
  return [
    element('path', {
      d: `M${x1.toFixed(1)} ${y1.toFixed(1)} L${x2.toFixed(1)} ${y2.toFixed(1)} H${PLOT.width}`,
      ...line,
    }),
    element(
      'g',
      { transform: `translate(${middle.x.toFixed(1)} ${middle.y.toFixed(1)}) rotate(${angle.toFixed(1)})` },
      textElement(0, -8, memoryLabel, { ...style, anchor: 'middle' }),
    ),
    textElement(PLOT.width - 8, y2 - 8, rateLabel, { ...style, anchor: 'end' }),
  ].join('')
}

/** Marker shapes of roughly equal area, centered at (0, 0). */
const MARK_PATHS = [
  'M-4 0 a4 4 0 1 0 8 0 a4 4 0 1 0 -8 0 Z',
  'M-3.6 -3.6 H3.6 V3.6 H-3.6 Z',
  'M0 -4.8 L4.6 3.4 H-4.6 Z',
  'M0 -5 L4.4 0 L0 5 L-4.4 0 Z',
  'M0 4.8 L4.6 -3.4 H-4.6 Z',
  'M-1.5 -4.5 H1.5 V-1.5 H4.5 V1.5 H1.5 V4.5 H-1.5 V1.5 H-4.5 V-1.5 H-1.5 Z',
  'M-5 -2.4 H5 V2.4 H-5 Z',
  'M-2.4 -5 H2.4 V5 H-2.4 Z',
]

function marker(mark: number, x: number, y: number, fill: string, label: string): string {
  const d = MARK_PATHS[mark % MARK_PATHS.length]
  const transform = `translate(${x.toFixed(1)} ${y.toFixed(1)})`
  const title = label === '' ? [] : [element('title', {}, escapeXml(label))]
  return element('g', { transform }, element('path', { d, fill, stroke: COLORS.card, 'stroke-width': 0.8 }, ...title))
}

function legend({ colors: colorNames, marks }: Roofline): string {
  const widest = WIDTH - LEGEND_LEFT - MARGIN - 22
  const line = (index: number, drawing: string, name: string) =>
    group(
      LEGEND_LEFT,
      PLOT.top + 8 + 22 * index,
      drawing,
      textElement(20, 4, fitted(name, widest, 13), { size: 13, fill: COLORS.text }),
    )
  const swatch = (color: number) =>
    element('rect', { x: -1, y: -6, width: 12, height: 12, rx: 3, fill: LINE_COLORS[color % LINE_COLORS.length] })
  return [
    ...colorNames.map((name, i) => line(i, swatch(i), name)),
    ...marks.map((name, i) => line(colorNames.length + 0.5 + i, marker(i, 5, 0, COLORS.faint, ''), name)),
  ].join('')
}
