import { formatBytes, formatTable, summarizeModules } from './format'
import { type PlannedDevice, plannedDevices, type ShownPlan } from './planned-devices'

const barWidth = 20
const signs = { weights: '#', kvCache: '+', buffers: '~', free: '.', over: '!' } as const

/** A table of what each device holds, with bars for those that have a limit. */
export function planTable(plan: ShownPlan): string {
  const devices = plannedDevices(plan)
  const limited = devices.some(({ budget }) => budget !== null)
  const rows = devices.map((device) => [
    device.device,
    device.stages.map(({ modules }) => summarizeModules(modules)).join('; '),
    ...[device.weights, device.kvCache, device.buffers, device.total].map(formatBytes),
    memory(device),
  ])
  if (devices.length > 1) {
    const sum = (part: 'weights' | 'kvCache' | 'buffers' | 'total') =>
      formatBytes(devices.reduce((bytes, device) => bytes + device[part], 0))
    rows.push(['together', '', sum('weights'), sum('kvCache'), sum('buffers'), sum('total')])
  }
  const head = ['Device', 'Modules', 'Weights', 'KV cache', 'Buffers', 'Total', ...(limited ? ['Memory'] : [])]
  return formatTable([head, ...rows], 'llrrrrl') + (limited ? `\n${legend(devices)}\n` : '')
}

function memory(planned: PlannedDevice): string {
  const { total, budget } = planned
  if (budget === null) return ''
  const share = (100 * total) / budget
  const percent = total > budget ? Math.ceil(share) : Math.round(share) // not 100 % for what does not fit
  return `[${bar(planned, budget)}] ${percent} % of ${formatBytes(budget)}`
}

function bar({ weights, kvCache, total }: PlannedDevice, budget: number): string {
  const scale = barWidth / Math.max(total, budget)
  const over = total > budget
  const end = over ? Math.min(Math.round(budget * scale), barWidth - 1) : barWidth
  const at = (bytes: number) => Math.min(Math.round(bytes * scale), end)
  const run = (sign: string, from: number, to: number) => sign.repeat(to - from)
  return [
    run(signs.weights, 0, at(weights)),
    run(signs.kvCache, at(weights), at(weights + kvCache)),
    run(signs.buffers, at(weights + kvCache), at(total)),
    run(over ? signs.over : signs.free, at(total), barWidth),
  ].join('')
}

function legend(devices: readonly PlannedDevice[]): string {
  const over = devices.some(({ total, budget }) => budget !== null && total > budget)
  const { weights, kvCache, buffers, free } = signs
  return (
    `Memory: ${weights} weights, ${kvCache} KV cache, ${buffers} buffers, ${free} free` +
    (over ? `, ${signs.over} over the limit` : '')
  )
}
