import type { ReasoningFormat, ToolFormat } from '../chat/formats'
import type { Model } from '../model'
import { RequestError } from './request-error'

/** How models write tool calls and reasoning, where that is not to be detected. */
export interface AnswerFormats {
  /** How the models write tool calls. Default: as their chat templates show. */
  readonly toolFormat?: ToolFormat | undefined
  /** How the models write their reasoning. Default: as their chat templates show. */
  readonly reasoningFormat?: ReasoningFormat | undefined
}

/** Variables of chat templates by name. */
export type TemplateVariables = Readonly<Record<string, unknown>>

/** A model, and the name that a request asked for. */
export interface ServedModel {
  readonly name: string
  readonly model: Model
  readonly formats: AnswerFormats
  /** The server's, for requests that do not set them. */
  readonly templateVariables: TemplateVariables
}

/** What a client is told to wait at most before it asks again, in seconds. */
const MAX_RETRY_AFTER = 30

/** The models of a server, by all of their names; the first one answers requests that name none. */
export class ServedModels {
  readonly #byName: ReadonlyMap<string, Model>
  readonly #maxWaiting: number
  readonly #formats: AnswerFormats
  readonly #templateVariables: TemplateVariables
  /** Seconds since 1970. */
  readonly created = Math.floor(Date.now() / 1000)

  /** @param maxWaiting sequences of a model that may wait for their turn */
  constructor(
    models: Readonly<Record<string, Model>>,
    maxWaiting = Number.POSITIVE_INFINITY,
    formats: AnswerFormats = {},
    templateVariables: TemplateVariables = {},
  ) {
    this.#byName = new Map(Object.entries(models))
    this.#maxWaiting = maxWaiting
    this.#formats = formats
    this.#templateVariables = templateVariables
  }

  get names(): string[] {
    return [...this.#byName.keys()]
  }

  /** Each model once, by the first of its names. */
  get all(): ServedModel[] {
    const names = new Map<Model, string>()
    for (const [name, model] of this.#byName) if (!names.has(model)) names.set(model, name)
    return [...names].map(([model, name]) => this.#served(name, model))
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
    return this.#served(own, model)
  }

  #served(name: string, model: Model): ServedModel {
    return { name, model, formats: this.#formats, templateVariables: this.#templateVariables }
  }

  /** {@link find}, for a request that the model has to compute. @throws RequestError 404, 429 */
  admit(name: string | undefined): ServedModel {
    const served = this.find(name)
    const { waiting } = served.model.activity()
    if (waiting < this.#maxWaiting) return served
    // A guess, as nobody knows how long answers get: a second for each full set of sequences ahead.
    const seconds = Math.min(Math.ceil(waiting / served.model.limits.maxSequences), MAX_RETRY_AFTER)
    throw new RequestError(429, 'rate_limit_error', `${waiting} sequences wait already; ask again later.`, {
      headers: { 'retry-after': String(seconds) },
    })
  }
}
