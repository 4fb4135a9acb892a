import type { CooperativeTask } from '../../common/event-loop'
import type { Model } from '../../models/architecture'
import type { WeightSource } from '../../models/graph'
import { traceRanks } from '../../models/stages'
import type { ChannelRunSpec, WeightSpec } from '../../native/weights'
import { ZEROS } from '../../quantization/padding'
import type { ModelLimits } from '../limits'

/** How the ranks of a stage share it, and what had to be padded. Empty without tensor parallelism. */
export function* explainRanks(
  model: Model,
  source: WeightSource,
  { tensorParallelSize: ranks, expertParallel }: Pick<ModelLimits, 'tensorParallelSize' | 'expertParallel'>,
): CooperativeTask<string[]> {
  if (ranks === 1) return []
  const { embedding, layers, norm, head } = model.names
  const stage = { device: 'cpu', modules: [embedding, `${layers}.0`, norm, head] }
  const weights = (yield* traceRanks(model, source, stage, ranks)).map((traced) => traced.weights)
  const padded = new Map<string, string>() // "stored to padded" -> layers
  let areExpertsPadded = false
  for (const [i, weight] of (weights[0] ?? []).entries()) {
    for (const { size, stored } of paddedSizes(weights.map((own) => own[i] as WeightSpec))) {
      areExpertsPadded ||= weight.kind === 'experts' && size > stored * NOTABLE && weight.experts.length >= ranks
      const text = `${stored} to ${size}`
      const names = padded.get(text)
      const name = weight.name.replace(/\.weight$/, '').replace(/^.*\./, '')
      padded.set(text, names ? `${names}, ${name}` : name)
    }
  }
  const sizes = [...padded].map(([text, names]) => `${text} (${names})`)
  const channels = expertParallel ? 'experts' : 'MLP channels'
  const together = `${ranks} devices compute every stage together, each with a share of the heads, ${channels} and vocabulary.`
  return [
    sizes.length > 0 ? `${together} Padded with zeros: ${sizes.join('; ')}.` : together,
    ...(areExpertsPadded ? ['expertParallel would leave experts whole, without padding.'] : []),
  ]
}

/** Padding of experts, which are most of a model, that is worth an alternative. */
const NOTABLE = 1.1

/** How ranks on GPUs exchange values, which is unknown until the machine is. Empty without such ranks. */
export function explainExchange(devices: readonly string[], ranks: number): string[] {
  if (ranks === 1 || !devices.some((device) => device.startsWith('cuda'))) return []
  return [
    "GPUs read each other's partial sums through peer access; those without it need NCCL, which allocates " +
      'memory that is not counted here.',
  ]
}

/** Output and input sizes of a weight that were padded, summed over all ranks. */
function paddedSizes(ranks: readonly WeightSpec[]): { size: number; stored: number }[] {
  const linears = ranks.map((weight) => (weight.kind === 'experts' ? weight.first : weight))
  const [first] = linears
  if (!first || first.kind === 'vector' || !first.part) return []
  const zerosOf = (runs: readonly ChannelRunSpec[] | undefined) =>
    (runs ?? []).reduce((sum, { start, count }) => sum + (start === ZEROS ? count : 0), 0)
  const parts = linears.flatMap((weight) => (weight.kind !== 'vector' && weight.part ? [weight.part] : []))
  const sum = (zeros: (part: (typeof parts)[number]) => number) => parts.reduce((total, part) => total + zeros(part), 0)
  return [
    { stored: first.part.storedOut, zeros: sum(({ outputs }) => zerosOf(outputs)) },
    { stored: first.part.storedIn, zeros: sum(({ inputs }) => zerosOf(inputs)) },
  ].flatMap(({ stored, zeros }) => (zeros > 0 ? [{ stored, size: stored + zeros }] : []))
}
