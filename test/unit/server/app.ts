/** Apps of the demo model for the tests of the server, without sockets. */
import { join } from 'node:path'
import { loadModel, type Model } from '../../../src'
import { ApiKeys } from '../../../src/server/api-keys'
import { type AppOptions, createApp } from '../../../src/server/app'
import { Metrics } from '../../../src/server/metrics'
import { type AnswerFormats, ServedModels } from '../../../src/server/served-models'
import { StatusReader } from '../../../src/server/status-reader'

export const loadDemo = (options: Parameters<typeof loadModel>[1] = {}) =>
  loadModel(join(__dirname, '../../../examples/demo-model'), { deviceMap: 'cpu', ...options })

interface Options extends Partial<Omit<AppOptions, 'models' | 'metrics' | 'status' | 'keys' | 'isDraining'>> {
  readonly keys?: string[]
  readonly draining?: boolean
  readonly maxWaiting?: number
  readonly formats?: AnswerFormats
  readonly templateVariables?: Readonly<Record<string, unknown>>
}

export function appOf(
  models: Readonly<Record<string, Model>>,
  { keys = [], draining = false, formats, templateVariables, ...rest }: Options = {},
) {
  const served = new ServedModels(models, rest.maxWaiting, formats, templateVariables)
  const metrics = new Metrics(served)
  return createApp({
    models: served,
    metrics,
    status: new StatusReader(served, metrics),
    page: undefined,
    keys: new ApiKeys(keys),
    maxBodyBytes: 1 << 16,
    requestTimeout: 0,
    stallTimeout: 0,
    corsOrigins: [],
    logger: undefined,
    stopped: new AbortController().signal,
    isDraining: () => draining,
    ...rest,
  })
}
