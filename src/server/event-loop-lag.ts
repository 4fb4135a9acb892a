/** How late the event loop comes to its timers: what JavaScript may add to the time of any token. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Gauge, type Registry } from 'prom-client'

/** Milliseconds between the timers: a hundred a second cost nothing. */
const RESOLUTION = 10

/**
 * Adds a gauge of the time since it was last read.
 * @returns what stops measuring
 */
export function measureEventLoopLag(registry: Registry): () => void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION })
  const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - RESOLUTION) / 1000 // the histogram holds whole intervals
  new Gauge({
    name: 'billfish:event_loop_lag_seconds',
    help: 'How late the event loop comes to its timers, since this was last read',
    labelNames: ['quantile'],
    registers: [registry],
    collect() {
      if (delays.count === 0) return
      this.set({ quantile: '0.5' }, late(delays.percentile(50)))
      this.set({ quantile: '0.99' }, late(delays.percentile(99)))
      this.set({ quantile: '1' }, late(delays.max))
      delays.reset()
    },
  })
  delays.enable()
  return () => {
    delays.disable()
  }
}
