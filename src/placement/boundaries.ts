/** Why an automatic split is cut where it is. */
import type { PlanDevice } from './plan'
import type { NeedsOf } from './stage-costs'
import { bytesInWords, listInWords } from './words'

/** A stage of an automatic split: groups [first, end) on a device. */
interface Run {
  readonly device: PlanDevice
  readonly first: number
  readonly end: number
}

/**
 * A sentence for every boundary, found by moving it one group either way and seeing what breaks: there is no room, or a
 * stage becomes slower than the slowest one is, or memory becomes less even. And one for every device left empty.
 * @param groups modules that stay together, in order
 * @param ends for each device the end of its run of groups; a split that fits, and the best one
 */
export function explainBoundaries(
  groups: readonly (readonly string[])[],
  needs: NeedsOf,
  devices: readonly PlanDevice[],
  ends: readonly number[],
): string[] {
  const runs = devices.map((device, i): Run => ({ device, first: ends[i - 1] ?? 0, end: ends[i] as number }))
  const stages = runs.filter(({ first, end }) => end > first)
  const slowest = stages.reduce((a, b) => (time(needs, b) > time(needs, a) ? b : a))
  const equallyFast = devices.every(({ speed }) => speed === devices[0]?.speed)
  const nameOf = (group: number) => listInWords(groups[group] as string[])

  /** What is wrong with `run`, which is `stage` with group number `added` too. */
  const objection = (stage: Run, run: Run, added: number): string => {
    const { device } = run
    const [now, then] = [needs(stage.first, stage.end), needs(run.first, run.end)]
    const [name, it] = [nameOf(added), groups[added]?.length === 1 ? 'it' : 'they']
    if (then.memory > device.memory) {
      const [more, left] = [then.memory - now.memory, device.memory - now.memory]
      return `${device.device} has no room for ${name} (${it} would take ${bytesInWords(more)} more, ${bytesInWords(left)} are left)`
    }
    if (time(needs, run) > time(needs, slowest)) {
      const bound =
        stage === slowest || equallyFast
          ? `, the slowest reads ${bytesInWords(needs(slowest.first, slowest.end).read)} now`
          : ` at a speed of ${device.speed}, more than ${slowest.device.device} takes now`
      return `with ${name}, ${device.device} would be the slowest stage (it would read ${bytesInWords(then.read)} a token${bound})`
    }
    return `with ${name} on ${device.device}, the slowest stage would be no faster and memory no more even`
  }

  const sentences: string[] = []
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

function whyEmpty(groups: number, needs: NeedsOf, { device, memory }: PlanDevice): string {
  const least = Math.min(...Array.from({ length: groups }, (_, i) => needs(i, i + 1).memory))
  return least > memory
    ? `${device} stays empty: the smallest stage there could be takes ${bytesInWords(least)}, and it may hold ${bytesInWords(memory)}.`
    : `${device} stays empty: no split that has a stage there and fits has a faster slowest stage.`
}

function time(needs: NeedsOf, { device, first, end }: Run): number {
  return needs(first, end).read / (device.speed ?? 1)
}
