import type { CooperativeTask } from '../../common/event-loop'
import type { Model } from '../../models/architecture'
import type { PlanSource } from '../accelerate/stored-modules'
import type { Strategy } from '../accelerate/strategy-map'
import type { ResolvedPlanOptions } from '../available-devices'
import type { ModelLimits, SizeOptions } from '../limits'
import { type PlanDevice, type PlannedStage, planStages } from '../plan'
import { autoSplit, minShortfall, splitMap } from '../planner/auto-map'
import { type Costs, type NeedsOf, tokensPerStep } from '../planner/stage-costs'
import { explainSplit } from './boundaries'
import { explainExchange, explainRanks } from './explain-ranks'
import { formatBinaryBytes, formatExactBytes, formatList, formatModules } from './format'
import { suggestChanges } from './suggested-changes'

/** A placement by one of accelerate's strategies, with the total bytes of the stored weights. */
export interface StrategyPlacement {
  readonly strategy: Strategy
  readonly storedBytes: number
}

/** A split of `costs.groups` over `devices`: for each device the end of its run. */
export interface Split {
  readonly ends: readonly number[]
}

export interface ExplainedPlan {
  readonly model: Model
  readonly source: PlanSource
  readonly costs: Costs
  readonly limits: ModelLimits
  readonly devices: readonly PlanDevice[]
  readonly stages: readonly (PlannedStage & { readonly budget: number | null })[]
  /** Device -> missing bytes, for devices whose budget is exceeded. */
  readonly lacking: ReadonlyMap<string, number>
  /** Who chose the placement: the caller, a strategy, or billfish. */
  readonly placement: 'given' | StrategyPlacement | Split
  readonly options: SizeOptions & Pick<ResolvedPlanOptions, 'hostBytes' | 'choice'>
  readonly overheadOn: (device: string) => number
  /** Devices that share the host memory as their budget. */
  readonly sharing: readonly string[]
}

/** Explains a plan in sentences: what each device holds, why the boundaries are where they are, or what is missing. */
export function* explainPlan(plan: ExplainedPlan): CooperativeTask<string[]> {
  const { stages, limits, devices, lacking, placement, costs } = plan
  const lines: string[] = plan.options.choice === undefined ? [] : [plan.options.choice]
  if (typeof placement === 'object' && 'strategy' in placement) lines.push(describeStrategy(placement))
  lines.push(...describeDevices(plan))
  lines.push(...describeBranches(stages))
  lines.push(describeCache(plan))
  lines.push(...(yield* explainRanks(plan.model, plan.source, limits)))
  const stageDevices = stages.map(({ device }) => device)
  lines.push(...explainExchange(stageDevices, limits.tensorParallelSize))
  lines.push(...describeOverhead(stages))
  lines.push(...describeHostMemory(plan))
  const tied = costs.tiedBytes(limits, stages[0]?.device ?? '')
  if (tied > 0) lines.push(describeTiedHead(plan, tied))
  if (lacking.size > 0) return [...lines, ...(yield* describeShortfall(plan))]
  if (isSplit(placement) && devices.length > 1) {
    const tokens = tokensPerStep(devices, limits.maxSequences)
    lines.push(...explainSplit(costs.groups, needsOf(plan), devices, placement.ends, tokens))
  }
  return lines
}

function isSplit(placement: ExplainedPlan['placement']): placement is Split {
  return typeof placement === 'object' && 'ends' in placement
}

function needsOf({ costs, limits }: ExplainedPlan): NeedsOf {
  const on = costs.needs(limits)
  return (device, first, end) => on(device).all(first, end)
}

function describeStrategy({ strategy, storedBytes }: StrategyPlacement): string {
  return (
    `'${strategy}' places as accelerate does, which counts the ${formatBinaryBytes(storedBytes)} of weights in the checkpoint alone: ` +
    'no KV cache, no buffers. What each device will actually hold:'
  )
}

/** One sentence per device, or per group of devices that share the same stages. */
function describeDevices({ stages, sharing }: ExplainedPlan): string[] {
  const groups = new Map<string, { device: string; modules: string; total: number; budget: number | null }[]>()
  for (const device of new Set(stages.map((stage) => stage.device))) {
    const own = stages.filter((stage) => stage.device === device)
    const total = own.reduce((sum, stage) => sum + stage.total, 0)
    const budget = sharing.length > 1 && sharing.includes(device) ? null : (own[0]?.budget ?? null)
    const held = (branch?: true) => [
      // Ranks on one device hold the same modules.
      ...new Set(own.filter((stage) => stage.branch === branch).map((stage) => formatModules(stage.modules))),
    ]
    const inStages = held().join('; and in a stage of their own ')
    const modules = [...(inStages === '' ? [] : [inStages]), ...held(true)].join('; and ')
    const group = own.some(({ ranks }) => ranks > 1) ? `${modules} ${budget}` : device
    groups.set(group, [...(groups.get(group) ?? []), { device, modules, total, budget }])
  }
  return [...groups.values()].map((holders) => {
    const together = holders.length > 1
    const totals = holders.map(({ total }) => total)
    const [least, most] = [formatBinaryBytes(Math.min(...totals)), formatBinaryBytes(Math.max(...totals))]
    const bytes = least === most ? least : `${least} to ${most}`
    const { modules, budget } = holders[0] as (typeof holders)[number]
    const within = `${budget === null ? '' : ` of ${formatBinaryBytes(budget)}`}${together ? ' each' : ''}`
    return `${formatList(holders.map(({ device }) => device))} ${together ? 'share' : 'holds'} ${modules}: ${bytes}${within}.`
  })
}

/** One sentence for each device that computes experts of another one's layers. */
function describeBranches(stages: ExplainedPlan['stages']): string[] {
  const devices = new Map<string, Set<string>>() // with experts -> with their layers
  let stage = ''
  for (const { device, branch, rank } of stages) {
    if (branch) devices.set(device, (devices.get(device) ?? new Set()).add(stage))
    else if (rank === 0) stage = device // which sends for all ranks
  }
  return [...devices].map(([device, others]) => {
    const waiting = formatList([...others])
    return `${waiting} ${others.size === 1 ? 'sends' : 'send'} ${device} the inputs of its experts, and ${others.size === 1 ? 'waits' : 'wait'} for their sums, once a layer.`
  })
}

function describeCache({ stages, limits, options }: ExplainedPlan): string {
  const { maxSequences, maxModelLength, cacheTokens } = limits
  const bytes = formatBinaryBytes(stages.reduce((sum, stage) => sum + stage.kvCache, 0))
  const sequences = `${maxSequences} sequence${maxSequences === 1 ? '' : 's'}`
  const shared = options.maxCacheTokens === undefined ? '' : `, which share room for ${cacheTokens} tokens,`
  const states = stages.reduce((sum, stage) => sum + stage.states, 0)
  const recurrent =
    states > 0 ? ` Their recurrent states, of the same size for any length, take ${formatBinaryBytes(states)}.` : ''
  return `The KV cache for ${sequences} of ${maxModelLength} tokens${shared} takes ${bytes} of that.${recurrent}`
}

/** One sentence if any device has overhead. */
function describeOverhead(stages: ExplainedPlan['stages']): string[] {
  const own = stages.filter(({ overhead }) => overhead > 0)
  const amounts = [...new Set(own.map(({ overhead }) => overhead))]
  if (amounts.length === 0) return []
  const takes = amounts.map((bytes) => {
    const on = own.filter(({ overhead }) => overhead === bytes).map(({ device }) => device)
    return `${formatBinaryBytes(bytes)} on ${formatList(on)}`
  })
  return [`CUDA itself needs about ${formatList(takes)} (an estimate; see deviceOverhead).`]
}

/** One sentence if devices share the host memory. */
function describeHostMemory({ sharing, options: { hostBytes } }: ExplainedPlan): string[] {
  if (sharing.length === 0 || hostBytes === undefined) return []
  const budgets =
    sharing.length === 1 ? `The budget of ${sharing[0]} is` : `The budgets of ${formatList(sharing)} are together`
  return [
    `${budgets} the memory that this process may still allocate, ${formatBinaryBytes(hostBytes)}; override it with maxMemory.`,
  ]
}

/** Every stage holds its own weights, so a tied weight is stored once only if embedding and head share a stage. */
function describeTiedHead(plan: ExplainedPlan, bytes: number): string {
  const { model, stages, costs, placement } = plan
  const { embedding, head } = model.names
  const [first, last] = [embedding, head].map((module) => stages.find(({ modules }) => modules.includes(module)))
  const tie = `${head} is tied to ${embedding}`
  const size = formatBinaryBytes(bytes)
  if (first === last) return `${tie}, in the same stage: their ${size} are stored once.`
  const where = formatList([...new Set([first?.device ?? '', last?.device ?? ''])])
  const twice = `${tie}, but in another stage: their ${size} are stored twice, on ${where}, and counted twice`
  if (!isSplit(placement)) return `${twice}.`
  const whole = needsOf(plan)(first?.device ?? '', 0, costs.groups.length)
  const alone = `take ${formatBinaryBytes(whole.memory)} and read ${formatBinaryBytes(whole.read)} a token`
  return `${twice}. To store them once, one stage would have to be the whole model, ${alone}.`
}

function* describeShortfall(plan: ExplainedPlan): CooperativeTask<string[]> {
  const { lacking, placement } = plan
  const short = [...lacking].map(([device, bytes]) => `${device} lacks ${formatExactBytes(bytes)}`)
  const line = `It does not fit: ${formatList(short)}.`
  return [line, ...(isSplit(placement) ? [yield* describeRemedies(plan)] : yield* describeAutoAlternative(plan))]
}

function* describeRemedies({ model, costs, limits, devices, options }: ExplainedPlan): CooperativeTask<string> {
  const changes = yield* suggestChanges(model, costs, limits, devices, options)
  return changes.length > 0
    ? `Each of these alone would make it fit: ${changes.join('; ')}.`
    : 'No single change of a size, nor one more device, makes it fit: use a smaller dtype, or combine changes.'
}

function* describeAutoAlternative(plan: ExplainedPlan): CooperativeTask<string[]> {
  const { model, source, costs, limits, devices, overheadOn } = plan
  const ends = yield* autoSplit(costs, limits, devices)
  if (!ends) {
    const names = formatList(devices.map(({ device }) => device))
    const lacking = yield* minShortfall(costs, limits, devices)
    return [
      `deviceMap 'auto' over ${names} does not fit either: the fullest device would lack ${formatExactBytes(lacking)}.`,
      yield* describeRemedies(plan),
    ]
  }
  const map = splitMap(costs, devices, ends)
  const stages = yield* planStages(model, source, limits, (module) => map.get(module), overheadOn)
  const shares = stages.map(
    ({ device, modules, total }) => `${device} ${formatModules(modules)} (${formatBinaryBytes(total)})`,
  )
  return [`deviceMap 'auto' would fit: ${shares.join('; ')}.`]
}
