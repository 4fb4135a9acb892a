import stringWidth from 'string-width'
import { DEFAULT_WIDTH, formatBytes, formatTable, paragraph, summarizeModules } from '../common/format'
import { type PlannedDevice, plannedDevices, type ShownPlan } from '../pictures/planned-devices'

const BAR_WIDTH = 20
const SIGNS = { weights: '#', kvCache: '+', states: '*', buffers: '~', overhead: '=', free: '.', over: '!' } as const

type Part = 'weights' | 'kvCache' | 'states' | 'buffers' | 'overhead' | 'total'
const PART_COLUMNS: readonly (readonly [title: string, Part])[] = [
  ['Weights', 'weights'],
  ['KV cache', 'kvCache'],
  ['States', 'states'],
  ['Buffers', 'buffers'],
  ['CUDA', 'overhead'],
  ['Total', 'total'],
]

/**
 * A table of what each device holds, with bars for those that have a limit: at the end of the lines where `width` has
 * room for them, else below.
 */
export function planTable(plan: ShownPlan, width = DEFAULT_WIDTH): string {
  const devices = plannedDevices(plan)
  const columns = PART_COLUMNS.filter(
    ([, part]) => (part !== 'overhead' && part !== 'states') || devices.some((device) => device[part] > 0),
  )
  const rows = devices.map((device) => [
    device.device,
    [...new Set(device.stages.map(({ modules }) => summarizeModules(modules)))].join('; '), // of ranks: once
    ...columns.map(([, part]) => formatBytes(device[part])),
  ])
  const sum = (part: Part) => formatBytes(devices.reduce((bytes, device) => bytes + device[part], 0))
  if (devices.length > 1) rows.push(['together', '', ...columns.map(([, part]) => sum(part))])
  const head = ['Device', 'Modules', ...columns.map(([title]) => title)]
  const alignment = `ll${'r'.repeat(columns.length)}`
  if (devices.every(({ budget }) => budget === null)) return formatTable(unbroken([head, ...rows]), alignment, width)

  const memories = devices.map(memory)
  const wide = formatTable(
    unbroken([[...head, 'Memory'], ...rows.map((row, i) => [...row, memories[i] ?? ''])]),
    `${alignment}l`,
    Number.POSITIVE_INFINITY,
  )
  if (wide.split('\n').every((line) => stringWidth(line) <= width)) return `${wide}\n${legend(devices, width)}`
  const bars = devices.flatMap(({ device }, i) => (memories[i] ? [[device, memories[i]]] : []))
  return `${formatTable(unbroken([head, ...rows]), alignment, width)}\n${formatTable(unbroken(bars), 'll', width)}\n${legend(devices, width)}`
}

/** Sizes and ranges of layers stay on one line: only a list of modules is broken, at its commas. */
function unbroken(rows: readonly (readonly string[])[]): string[][] {
  return rows.map((row) => row.map((cell) => cell.replace(/(?<![,;]) /g, '\u00a0')))
}

function memory(planned: PlannedDevice): string {
  const { total, budget } = planned
  if (budget === null) return ''
  const share = (100 * total) / budget
  const percent = total > budget ? Math.ceil(share) : Math.round(share) // not 100 % for what does not fit
  return `[${bar(planned, budget)}] ${percent} % of ${formatBytes(budget)}`
}

function bar({ weights, kvCache, states, buffers, total }: PlannedDevice, budget: number): string {
  const scale = BAR_WIDTH / Math.max(total, budget)
  const over = total > budget
  const end = over ? Math.min(Math.round(budget * scale), BAR_WIDTH - 1) : BAR_WIDTH
  const at = (bytes: number) => Math.min(Math.round(bytes * scale), end)
  const run = (sign: string, from: number, to: number) => sign.repeat(to - from)
  return [
    run(SIGNS.weights, 0, at(weights)),
    run(SIGNS.kvCache, at(weights), at(weights + kvCache)),
    run(SIGNS.states, at(weights + kvCache), at(weights + kvCache + states)),
    run(SIGNS.buffers, at(weights + kvCache + states), at(weights + kvCache + states + buffers)),
    run(SIGNS.overhead, at(weights + kvCache + states + buffers), at(total)),
    run(over ? SIGNS.over : SIGNS.free, at(total), BAR_WIDTH),
  ].join('')
}

function legend(devices: readonly PlannedDevice[], width: number): string {
  const over = devices.some(({ total, budget }) => budget !== null && total > budget)
  const { weights, kvCache, states, buffers, overhead, free } = SIGNS
  const recurrent = devices.some((device) => device.states > 0) ? `, ${states} states` : ''
  const cuda = devices.some((device) => device.overhead > 0) ? `, ${overhead} CUDA itself` : ''
  const end = over ? `, ${SIGNS.over} over budget` : ''
  return paragraph(
    `Memory: ${weights} weights, ${kvCache} KV cache${recurrent}, ${buffers} buffers${cuda}, ${free} free${end}`,
    width,
  )
}
