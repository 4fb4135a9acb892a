import type { Model } from '../models/architecture'
import type { WeightSource } from '../models/graph'
import { modulesOf, traceStage } from '../models/stages'
import { elementBytes, storedBytes } from '../native/weights'
import type { InferModules } from './infer-device-map'

/**
 * A model as accelerate sees it, which places by what the checkpoint stores: the tensors of a format at their own size,
 * a tied weight once and under the embedding, and the rotary embedding, whose buffers it counts, as a module of its own.
 */
export function storedModules(model: Model, source: WeightSource): InferModules {
  const { embedding, layers, norm, head } = model.names
  const traces = new Map(
    modulesOf(model).map((module) => [module, traceStage(model, source, { device: '', modules: [module] })]),
  )
  const weightsOf = (module: string) => traces.get(module)?.weights ?? []

  const [table] = weightsOf(embedding)
  const tied = weightsOf(head).some(({ name }) => name === table?.name)
  const floatBytes = elementBytes[table?.kind === 'matrix' ? table.weight.dtype : 'F16']
  const modules: Record<string, number> = {}
  let leaves = 0
  for (const module of traces.keys()) {
    const weights = tied && module === head ? [] : weightsOf(module)
    // transformers holds the frequencies, and a copy of them from before any scaling.
    if (module === head) {
      const frequencies = traces.get(`${layers}.0`)?.program.ropes[0]?.inverseFrequency.length ?? 0
      modules[siblingOf(norm, 'rotary_emb')] = 2 * frequencies * floatBytes
      leaves++
    }
    modules[module] = weights.reduce((sum, weight) => sum + storedBytes(weight), 0)
    leaves += weights.length // a linear, a norm, an embedding each
  }
  const total = Object.values(modules).reduce((sum, bytes) => sum + bytes, 0)
  return {
    modules,
    tied: tied ? [[`${head}.weight`, `${embedding}.weight`]] : [],
    noSplit: [layers],
    leaves: { mean_bytes: Math.floor(total / leaves), final_modules: leaves },
  }
}

/** `model.norm` -> `model.rotary_emb` */
function siblingOf(module: string, name: string): string {
  return `${module.slice(0, module.lastIndexOf('.') + 1)}${name}`
}
