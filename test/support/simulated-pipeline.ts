import type { SampledToken } from '../../src/native/addon'
import { BlockPool } from '../../src/pipeline/block-pool'
import { type Batch, Scheduler, type SchedulerOptions } from '../../src/pipeline/scheduler'
import { Sequence } from '../../src/pipeline/sequence'

export interface SimulatedRequest {
  readonly arrival: number
  readonly prompt: number
  readonly newTokens: number
}

export interface SimulatedStage {
  /** Time to read the weights, and to compute a row. */
  readonly read: number
  readonly row: number
}

export interface Simulation {
  /** When each request got its tokens. */
  readonly tokenTimes: readonly (readonly number[])[]
  /** When the last token came. */
  readonly end: number
  /** Part of the time that each stage was busy, from the first step to the end. */
  readonly utilization: readonly number[]
  readonly preemptions: number
  readonly steps: readonly { readonly begin: number; readonly rows: readonly number[] }[]
  /** Blocks that are free when all is done. */
  readonly available: number
}

const sample: SampledToken = { token: 1, logprob: 0, alternatives: [] }

/** Runs requests through the scheduler and a pipeline whose clock is simulated: hand-over costs nothing. */
export function simulate(
  requests: readonly SimulatedRequest[],
  stages: readonly SimulatedStage[],
  options: Omit<SchedulerOptions, 'ropeBase'> & { readonly blockSize: number; readonly blockCount: number },
): Simulation {
  const pool = new BlockPool(options.blockSize, options.blockCount)
  const scheduler = new Scheduler(pool, { ropeBase: () => 0, ...options })
  const tokenTimes: number[][] = requests.map(() => [])
  const steps: Simulation['steps'][number][] = []
  const freeAt = stages.map(() => 0)
  const busy = stages.map(() => 0)
  let now = 0
  let arrived = 0
  const order = [...requests.keys()].sort((a, b) => arrivalOf(requests, a) - arrivalOf(requests, b))
  const underWay: { batch: Batch; end: number }[] = []

  const finish = (batch: Batch) => {
    scheduler.complete(batch)
    for (const { sequence } of batch) {
      if (sequence.computed < sequence.tokens.length) continue
      const token = sequence.request.onStep({ sample, nonFinite: false })
      if (token === undefined) sequence.ending = {}
      else sequence.tokens.push(token)
    }
    scheduler.sweep()
  }
  for (;;) {
    for (; arrived < order.length && arrivalOf(requests, order[arrived]) <= now; arrived++) {
      const index = order[arrived] as number
      const { prompt, newTokens } = requests[index] as SimulatedRequest
      const times = tokenTimes[index] as number[]
      scheduler.add(
        new Sequence(
          {
            prompt: Array(prompt).fill(0),
            maxNewTokens: newTokens,
            sampling: () => ({}) as never,
            onStep: () => {
              times.push(now)
              return times.length < newTokens ? 1 : undefined
            },
            onEnd: () => {},
          },
          arrived,
        ),
      )
    }
    for (let batch = scheduler.next(); batch; batch = scheduler.next()) {
      const rows = batch.reduce((sum, share) => sum + share.rows, 0)
      steps.push({ begin: now, rows: batch.map((share) => share.rows) })
      let at = now
      for (const [i, { read, row }] of stages.entries()) {
        at = Math.max(at, freeAt[i] as number) + read + row * rows
        freeAt[i] = at
        busy[i] = (busy[i] as number) + read + row * rows
      }
      underWay.push({ batch, end: at })
    }
    const arrival = arrived < order.length ? arrivalOf(requests, order[arrived]) : Number.POSITIVE_INFINITY
    const first = underWay[0] // steps end in their order
    now = Math.min(arrival, first?.end ?? Number.POSITIVE_INFINITY)
    if (now === Number.POSITIVE_INFINITY) break
    if (first && first.end === now) finish((underWay.shift() as (typeof underWay)[number]).batch)
  }
  const end = Math.max(...tokenTimes.flat())
  const begin = steps[0]?.begin ?? 0
  return {
    tokenTimes,
    end,
    utilization: busy.map((time) => time / (end - begin)),
    preemptions: scheduler.preemptions,
    steps,
    available: pool.available,
  }
}

function arrivalOf(requests: readonly SimulatedRequest[], index: number | undefined): number {
  return (requests[index as number] as SimulatedRequest).arrival
}
