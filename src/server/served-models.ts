import type { Model } from '../model'
import { RequestError } from './request-error'

/** A model, and the name that a request asked for. */
export interface ServedModel {
  readonly name: string
  readonly model: Model
}

/** The models of a server, by all of their names; the first one answers requests that name none. */
export class ServedModels {
  readonly #byName: ReadonlyMap<string, Model>
  /** Seconds since 1970. */
  readonly created = Math.floor(Date.now() / 1000)

  constructor(models: Readonly<Record<string, Model>>) {
    this.#byName = new Map(Object.entries(models))
  }

  get names(): string[] {
    return [...this.#byName.keys()]
  }

  /** @throws RequestError 404 */
  find(name: string | undefined): ServedModel {
    const own = name ?? this.names[0] ?? ''
    const model = this.#byName.get(own)
    if (model === undefined) {
      const known = this.names.map((known) => `'${known}'`).join(', ')
      throw new RequestError(404, 'invalid_request_error', `There is no model '${own}'; this server has ${known}.`, {
        param: 'model',
        code: 'model_not_found',
      })
    }
    return { name: own, model }
  }
}
