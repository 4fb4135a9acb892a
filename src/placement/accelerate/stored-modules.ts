import { type CooperativeTask, SLICE_SIZE } from '../../common/event-loop'
import type { Model } from '../../models/architecture'
import type { WeightSource } from '../../models/graph'
import { Rank } from '../../models/rank'
import { modulesOf, type TracedStage, trace } from '../../models/stages'
import { ELEMENT_BYTES, storedBytes, type TensorRef } from '../../native/weights'
import type { InferModules } from './infer-device-map'

/** Source of the weights of a plan; an opened checkpoint also has tensors. */
export interface PlanSource extends WeightSource {
  readonly tensors?: ReadonlyMap<string, TensorRef>
  /** Tensor-name prefix of a module, if it differs from the module name. */
  storedName?(module: string): string
}

/**
 * A model as accelerate sees it, which places by what the checkpoint stores: tensors at their stored size, a tied
 * weight once (with the embedding), and the rotary embedding, whose buffers it counts, as a separate module.
 */
export function* storedModules(model: Model, source: PlanSource): CooperativeTask<InferModules> {
  const { embedding, layers, norm, head } = model.names
  const traces = new Map<string, TracedStage>()
  for (const module of modulesOf(model)) traces.set(module, yield* trace(model, source, [module], Rank.only))
  const weightsOf = (module: string) => traces.get(module)?.weights ?? []

  const storedName = (module: string) => source.storedName?.(module) ?? module
  const bytes = source.tensors
    ? yield* tensorBytes(source.tensors.values(), [...traces.keys()].map(storedName))
    : undefined
  const bytesOf = (module: string) =>
    bytes?.get(storedName(module)) ?? weightsOf(module).reduce((sum, weight) => sum + storedBytes(weight), 0)

  const [table] = weightsOf(embedding)
  const tied = weightsOf(head).some(({ name }) => name === table?.name)
  const floatBytes = ELEMENT_BYTES[table?.kind === 'matrix' ? table.weight.dtype : 'F16']
  const modules: Record<string, number> = {}
  let leaves = 0
  for (const module of traces.keys()) {
    const counted = !(tied && module === head)
    modules[module] = counted ? bytesOf(module) : 0
    leaves += counted ? weightsOf(module).length : 0 // linears, norms and embeddings
    // transformers keeps the frequencies and an unscaled copy of them.
    if (module === norm) {
      const frequencies = traces.get(`${layers}.0`)?.program.ropes[0]?.inverseFrequency.length ?? 0
      modules[siblingOf(norm, 'rotary_emb')] = 2 * frequencies * floatBytes
      leaves++
    }
  }
  const total = Object.values(modules).reduce((sum, bytes) => sum + bytes, 0)
  return {
    modules,
    tied: tied ? [[`${head}.weight`, `${embedding}.weight`]] : [],
    noSplit: [layers],
    leaves: { mean_bytes: Math.floor(total / leaves), final_modules: leaves },
  }
}

/** Bytes of the tensors in each module, including tensors that are not needed, such as zeros of a symmetric scheme. */
function* tensorBytes(tensors: Iterable<TensorRef>, modules: readonly string[]): CooperativeTask<Map<string, number>> {
  const bytes = new Map(modules.map((module) => [module, 0]))
  let count = 0
  for (const tensor of tensors) {
    let end = tensor.name.lastIndexOf('.')
    while (end > 0 && !bytes.has(tensor.name.slice(0, end))) end = tensor.name.lastIndexOf('.', end - 1)
    const module = tensor.name.slice(0, Math.max(0, end))
    const before = bytes.get(module)
    if (before !== undefined) bytes.set(module, before + tensor.bytes)
    if (++count % SLICE_SIZE === 0) yield
  }
  return bytes
}

/** `model.norm` -> `model.rotary_emb` */
function siblingOf(module: string, name: string): string {
  return `${module.slice(0, module.lastIndexOf('.') + 1)}${name}`
}
