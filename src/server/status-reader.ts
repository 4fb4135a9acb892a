import { totalmem } from 'node:os'
import { discoverDevices } from '../devices'
import type { Metrics } from './metrics'
import type { ServedModel, ServedModels } from './served-models'
import type { DeviceStatus, ModelStatus, Status } from './status'

/** Reads what models and devices are doing. */
export class StatusReader {
  readonly #models: ServedModels
  readonly #metrics: Metrics
  readonly #start = performance.now()
  #devices: Promise<readonly DeviceStatus[]> | undefined

  constructor(models: ServedModels, metrics: Metrics) {
    this.#models = models
    this.#metrics = metrics
  }

  async read(): Promise<Status> {
    const served = this.#models.all
    this.#devices ??= describeDevices(served.flatMap(({ model }) => model.memory().map(({ device }) => device)))
    return {
      devices: await this.#devices,
      models: await Promise.all(served.map((own) => this.#readModel(own))),
      uptime: (performance.now() - this.#start) / 1000,
    }
  }

  async #readModel({ name, model }: ServedModel): Promise<ModelStatus> {
    const { architectures, quantization_config: quantization } = model.config
    const { waiting, running, paused, stepsInFlight, cacheTokens, preemptions, busy, prefixCache } = model.activity()
    const { maxModelLength, maxSequences } = model.limits
    return {
      names: this.#models.names.filter((other) => this.#models.find(other).model === model),
      architecture: textOf(Array.isArray(architectures) ? architectures[0] : null),
      quantization: quantizationOf(quantization),
      maxModelLength,
      maxSequences,
      chats: model.hasChatTemplate,
      stages: model.stages.map((stage) => ({ ...stage, busy: busy[stage.name] as number })),
      memory: model.memory(),
      waiting,
      running,
      paused,
      stepsInFlight,
      cacheTokens,
      preemptions,
      prefixCache: prefixCache ? { queries: prefixCache.queries, hits: prefixCache.hits } : null,
      tokens: await this.#metrics.tokensOf(name),
    }
  }
}

/** Configs are others' files: anything may be in them. */
function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null
}

function quantizationOf(config: unknown): ModelStatus['quantization'] {
  const { quant_method, bits } = (config ?? {}) as Record<string, unknown>
  const method = textOf(quant_method)
  return method === null ? null : { method, bits: typeof bits === 'number' ? bits : null }
}

/** @param names of devices, possibly several times */
async function describeDevices(names: readonly string[]): Promise<DeviceStatus[]> {
  const { devices } = await discoverDevices({ emulated: true })
  return [...new Set(names)].map((device) => {
    const isHost = device === 'cpu' || device.startsWith('cpu:')
    const found = devices.find((other) => other.device === (isHost ? 'cpu' : device))
    if (found?.kind === 'cpu') {
      const name = `${found.cores} ${found.cores === 1 ? 'core' : 'cores'}, ${found.instructionSet}`
      return { device, name, totalBytes: hostMemory() }
    }
    return { device, name: found?.kind === 'cuda' ? found.name : null, totalBytes: found?.totalBytes ?? null }
  })
}

/** That of the machine, or of its part that this process may use. */
function hostMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY)
}
