import { formatBytes } from '../common/format'
import type { DeviceMemory, MemoryUse } from '../model-state'
import { percent } from './numbers'

const USES = ['weights', 'kvCache', 'states', 'buffers'] as const
const NAMES = { weights: 'weights', kvCache: 'KV cache', states: 'states', buffers: 'buffers' }

export function sizeOf(memory: MemoryUse): number {
  return USES.reduce((sum, use) => sum + memory[use], 0)
}

/** What the colors mean, with the bytes of all devices. */
export function memoryLegend(memory: readonly DeviceMemory[]): { use: string; text: string }[] {
  const sum = (read: (device: DeviceMemory) => number) => memory.reduce((total, device) => total + read(device), 0)
  const kinds = USES.map((use) => ({ use, bytes: sum((device) => device[use]) })).filter(({ bytes }) => bytes > 0)
  return kinds.map(({ use, bytes }) => ({
    use,
    text: `${NAMES[use]} ${formatBytes(bytes)}${use === 'kvCache' ? `, ${percent(sum((device) => device.kvCacheInUse) / bytes)} in use` : ''}`,
  }))
}

/** A device's bytes by use, in its memory as a whole, or among themselves where that is not known. */
export function MemoryBar({ memory, total }: { memory: DeviceMemory; total: number | null }) {
  const [used, planned] = [sizeOf(memory), sizeOf(memory.planned)]
  const whole = Math.max(total ?? 0, used, planned)
  const parts = USES.map((use) => `${NAMES[use]} ${formatBytes(memory[use])}`).join(', ')
  const width = (bytes: number) => ({ width: `${(bytes / whole) * 100}%` })
  return (
    <>
      <div class="bar" title={parts} aria-hidden="true">
        <span class="weights" style={width(memory.weights)} />
        <span class="kvCache" style={width(memory.kvCacheInUse)} />
        <span class="kvCache free" style={width(memory.kvCache - memory.kvCacheInUse)} />
        <span class="states" style={width(memory.states)} />
        <span class="buffers" style={width(memory.buffers)} />
      </div>
      <small>
        {formatBytes(used)}
        {total !== null && ` of ${formatBytes(total)}`}
        {used === planned ? ', as planned' : `, planned ${formatBytes(planned)}`}
        <span class="hidden">: {parts}</span>
      </small>
    </>
  )
}
