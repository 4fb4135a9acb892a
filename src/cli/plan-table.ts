import { formatBytes, formatTable, summarizeModules } from './format'
import { type PlannedDevice, plannedDevices, type ShownPlan } from './planned-devices'

const barWidth = 20
const signs = { weights: '#', kvCache: '+', buffers: '~', overhead: '=', free: '.', over: '!' } as const

type Part = 'weights' | 'kvCache' | 'buffers' | 'overhead' | 'total'
const partColumns: readonly (readonly [title: string, Part])[] = [
  ['Weights', 'weights'],
  ['KV cache', 'kvCache'],
  ['Buffers', 'buffers'],
  ['CUDA', 'overhead'],
  ['Total', 'total'],
]

/** A table of what each device holds, with bars for those that have a limit. */
export function planTable(plan: ShownPlan): string {
  const devices = plannedDevices(plan)
  const limited = devices.some(({ budget }) => budget !== null)
  const columns = partColumns.filter(([, part]) => part !== 'overhead' || devices.some(({ overhead }) => overhead > 0))
  const rows = devices.map((device) => [
    device.device,
    [...new Set(device.stages.map(({ modules }) => summarizeModules(modules)))].join('; '), // of ranks: once
    ...columns.map(([, part]) => formatBytes(device[part])),
    memory(device),
  ])
  if (devices.length > 1) {
    const sum = (part: Part) => formatBytes(devices.reduce((bytes, device) => bytes + device[part], 0))
    rows.push(['together', '', ...columns.map(([, part]) => sum(part))])
  }
  const head = ['Device', 'Modules', ...columns.map(([title]) => title), ...(limited ? ['Memory'] : [])]
  return formatTable([head, ...rows], `ll${'r'.repeat(columns.length)}l`) + (limited ? `\n${legend(devices)}\n` : '')
}

function memory(planned: PlannedDevice): string {
  const { total, budget } = planned
  if (budget === null) return ''
  const share = (100 * total) / budget
  const percent = total > budget ? Math.ceil(share) : Math.round(share) // not 100 % for what does not fit
  return `[${bar(planned, budget)}] ${percent} % of ${formatBytes(budget)}`
}

function bar({ weights, kvCache, buffers, total }: PlannedDevice, budget: number): string {
  const scale = barWidth / Math.max(total, budget)
  const over = total > budget
  const end = over ? Math.min(Math.round(budget * scale), barWidth - 1) : barWidth
  const at = (bytes: number) => Math.min(Math.round(bytes * scale), end)
  const run = (sign: string, from: number, to: number) => sign.repeat(to - from)
  return [
    run(signs.weights, 0, at(weights)),
    run(signs.kvCache, at(weights), at(weights + kvCache)),
    run(signs.buffers, at(weights + kvCache), at(weights + kvCache + buffers)),
    run(signs.overhead, at(weights + kvCache + buffers), at(total)),
    run(over ? signs.over : signs.free, at(total), barWidth),
  ].join('')
}

function legend(devices: readonly PlannedDevice[]): string {
  const over = devices.some(({ total, budget }) => budget !== null && total > budget)
  const { weights, kvCache, buffers, overhead, free } = signs
  const cuda = devices.some((device) => device.overhead > 0) ? `, ${overhead} CUDA itself` : ''
  return (
    `Memory: ${weights} weights, ${kvCache} KV cache, ${buffers} buffers${cuda}, ${free} free` +
    (over ? `, ${signs.over} over the limit` : '')
  )
}
