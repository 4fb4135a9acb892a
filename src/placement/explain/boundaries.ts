/** Explains the stage boundaries of an automatic split. */
import { capacityOf, type PlanDevice } from '../plan'
import { isComputeBound, type NeedsOf, stageTime } from '../planner/stage-costs'
import { formatBinaryBytes, formatList } from './format'

/** One stage of the split: groups [first, end) on a device. */
interface Run {
  readonly device: PlanDevice
  readonly first: number
  readonly end: number
}

/**
 * One sentence about the slowest stage, one per boundary and one per empty device. A boundary is explained by moving it
 * one group in either direction and reporting what breaks: a device runs out of memory, a stage becomes the slowest, or
 * memory becomes less balanced.
 * @param groups modules that are placed together, in order
 * @param ends for each device the end of its run of groups; must be the optimal split
 * @param tokens tokens in a step with all sequences running
 */
export function explainSplit(
  groups: readonly (readonly string[])[],
  needs: NeedsOf,
  devices: readonly PlanDevice[],
  ends: readonly number[],
  tokens: number,
): string[] {
  const timeOf = ({ device, first, end }: Run) => stageTime(needs(device.device, first, end), device, tokens)
  const computes = ({ device, first, end }: Run) => isComputeBound(needs(device.device, first, end), device, tokens)
  const describeWork = (run: Run) => {
    const { read, operations } = needs(run.device.device, run.first, run.end)
    return computes(run) ? `${((operations * tokens) / 1e9).toFixed(1)} billion operations` : formatBinaryBytes(read)
  }

  const runs = devices.map((device, i): Run => ({ device, first: ends[i - 1] ?? 0, end: ends[i] as number }))
  const stages = runs.filter(({ first, end }) => end > first)
  const slowest = stages.reduce((a, b) => (timeOf(b) > timeOf(a) ? b : a))
  const nameOf = (group: number) => formatList(groups[group] as string[])

  /** Why `run`, which is `stage` plus group `added`, is worse. */
  const objection = (stage: Run, run: Run, added: number): string => {
    const { device } = run
    const [now, then] = [needs(device.device, stage.first, stage.end), needs(device.device, run.first, run.end)]
    const [name, it] = [nameOf(added), groups[added]?.length === 1 ? 'it' : 'they']
    if (then.memory > capacityOf(device)) {
      const [more, left] = [then.memory - now.memory, capacityOf(device) - now.memory]
      return `${device.device} has no room for ${name} (${it} would take ${formatBinaryBytes(more)} more, ${formatBinaryBytes(left)} are left)`
    }
    if (timeOf(run) > timeOf(slowest)) {
      const work = computes(run) ? `compute ${describeWork(run)} in a step` : `read ${describeWork(run)} a token`
      const comparable = computes(run) === computes(slowest) && device.speed === slowest.device.speed
      const bound = comparable
        ? `, the slowest ${computes(run) ? 'computes' : 'reads'} ${describeWork(slowest)} now`
        : ` at a speed of ${device.speed ?? 1}, more than ${slowest.device.device} takes now`
      return `with ${name}, ${device.device} would be the slowest stage (it would ${work}${bound})`
    }
    return `with ${name} on ${device.device}, the slowest stage would be no faster and memory no more even`
  }

  const does = computes(slowest)
    ? `computes ${describeWork(slowest)} in a step of ${tokens} tokens`
    : `reads ${describeWork(slowest)} of weights a token`
  const sentences = [
    `The slowest stage is that of ${slowest.device.device}, which ${does}: no other split within these budgets has a ` +
      'faster slowest stage.',
  ]
  for (const [i, stage] of stages.entries()) {
    const before = stages[i - 1]
    if (!before) continue
    const later = objection(before, { ...before, end: before.end + 1 }, stage.first)
    const earlier = objection(stage, { ...stage, first: stage.first - 1 }, stage.first - 1)
    sentences.push(`${stage.device.device} begins with ${nameOf(stage.first)}: ${later}; ${earlier}.`)
  }
  for (const { device, first, end } of runs) if (first === end) sentences.push(whyEmpty(groups.length, needs, device))
  return sentences
}

function whyEmpty(groups: number, needs: NeedsOf, planned: PlanDevice): string {
  const { device } = planned
  const room = capacityOf(planned)
  const least = Math.min(...Array.from({ length: groups }, (_, i) => needs(device, i, i + 1).memory))
  return least > room
    ? `${device} stays empty: the smallest stage there could be takes ${formatBinaryBytes(least)}, and it may hold ${formatBinaryBytes(room)}.`
    : `${device} stays empty: no split that has a stage there and fits has a faster slowest stage.`
}
