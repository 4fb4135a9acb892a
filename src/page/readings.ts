/** Rates, from readings of the server's counters. */
import type { ModelStatus, Status } from '../server/status'

/** Seconds of readings that are kept. */
const HISTORY = 60

/** Seconds over which the rates of the moment are taken. */
const MOMENT = 5

/** Rates of the moment. */
export interface Rates {
  readonly promptTokensPerSecond: number
  readonly generatedTokensPerSecond: number
  /** Part of the time that each device has computed, 0 to 1; without those whose time no stage counts. */
  readonly busy: ReadonlyMap<string, number>
}

/** Adds a reading, and forgets old ones, and those from before the server was started again. */
export function withReading(readings: readonly Status[], next: Status): readonly Status[] {
  const isSame = (readings.at(-1)?.uptime ?? 0) <= next.uptime
  return [...(isSame ? readings.filter(({ uptime }) => uptime >= next.uptime - HISTORY) : []), next]
}

/** @returns undefined as long as there are no two readings */
export function ratesOf(readings: readonly Status[], model: number): Rates | undefined {
  const last = readings.at(-1)
  const first = readings.find(({ uptime }) => last && uptime >= last.uptime - MOMENT)
  const [before, now] = [first?.models[model], last?.models[model]]
  if (!first || !last || first === last || !before || !now) return undefined
  const seconds = last.uptime - first.uptime
  const busyBefore = busyTimes(before)
  return {
    promptTokensPerSecond: (now.tokens.prompt - before.tokens.prompt) / seconds,
    generatedTokensPerSecond: (now.tokens.generated - before.tokens.generated) / seconds,
    busy: new Map(
      [...busyTimes(now)].map(([device, busy]) => {
        const share = (busy - (busyBefore.get(device) ?? 0)) / 1000 / seconds
        return [device, Math.min(1, Math.max(0, share))]
      }),
    ),
  }
}

/** Tokens generated per second between each reading and the next, with the times of the latter. */
export function history(readings: readonly Status[], model: number): { age: number; tokensPerSecond: number }[] {
  const last = readings.at(-1)?.uptime ?? 0
  return readings.slice(1).flatMap((reading, i) => {
    const before = readings[i] as Status
    const [from, to] = [before.models[model], reading.models[model]]
    if (!from || !to) return []
    const tokensPerSecond = (to.tokens.generated - from.tokens.generated) / (reading.uptime - before.uptime)
    return [{ age: (last - reading.uptime) / HISTORY, tokensPerSecond }]
  })
}

/** Milliseconds by device: a device computes whenever one of its stages does. */
function busyTimes({ stages }: ModelStatus): Map<string, number> {
  const times = new Map<string, number>()
  for (const { devices, busy } of stages)
    for (const device of devices) times.set(device, (times.get(device) ?? 0) + busy)
  return times
}
