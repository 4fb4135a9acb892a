/** What createServer() and createApp() take: models, and the options that both have. */
import { z } from 'zod'
import { REASONING_FORMAT_NAMES, TOOL_FORMAT_NAMES } from '../chat/formats'
import { type Models, readModels } from '../named-models'
import { flag, live, whole } from '../options/values'
import { ApiKeys } from './api-keys'
import { STALL_TIMEOUT } from './event-stream'
import { Metrics } from './metrics'
import { loadPage } from './page'
import { isRequestLogger, type RequestLogger } from './request-log'
import { type AnswerFormats, ServedModels, type TemplateVariables } from './served-models'
import { StatusReader } from './status-reader'

/** Options of a server's requests. */
export interface RequestOptions extends AnswerFormats {
  /** Variables of the chat templates for requests that do not set them, such as `{ enable_thinking: false }`. */
  readonly templateVariables?: TemplateVariables | undefined
  /** Keys of which every request must bring one, except for /health and the page. Default: none is asked for. */
  readonly apiKeys?: readonly string[] | undefined
  /** The largest body of a request in bytes. Default 4 MiB. */
  readonly maxBodyBytes?: number | undefined
  /** Sequences of a model that may wait for their turn; a request that finds more gets the status 429. Default 256. */
  readonly maxWaiting?: number | undefined
  /** How long a request may take, in milliseconds, before it ends with the status 504. Default 0: as long as it takes. */
  readonly requestTimeout?: number | undefined
  /**
   * How long a client may read nothing of its stream, in milliseconds, before its generation ends and the connection
   * breaks off, so that it holds no KV cache; 0 for any time. Default 60,000.
   */
  readonly stallTimeout?: number | undefined
  /** Where pages may come from whose scripts may ask: `https://example.com`, or `*` for anywhere. Default: nowhere. */
  readonly corsOrigins?: readonly string[] | undefined
  /** Whether / is a page that shows what models and devices are doing, with a chat. Default true. */
  readonly page?: boolean | undefined
  /** Is given a line for each request: pino(), or anything with its methods. Default: none. */
  readonly logger?: RequestLogger | undefined
}

const strings = () => z.array(z.string().min(1)).describe('an array of strings, none of them empty')

export const requestOptions = {
  apiKeys: strings(),
  maxBodyBytes: whole(1, 2 ** 31 - 1),
  maxWaiting: whole(1, 2 ** 31 - 1),
  requestTimeout: whole(0, 2 ** 31 - 1, 'a whole number of milliseconds'),
  stallTimeout: whole(0, 2 ** 31 - 1, 'a whole number of milliseconds'),
  corsOrigins: strings(),
  page: flag(),
  toolFormat: z.enum(TOOL_FORMAT_NAMES).describe(TOOL_FORMAT_NAMES.join(' or ')),
  reasoningFormat: z.enum(REASONING_FORMAT_NAMES).describe(REASONING_FORMAT_NAMES.join(' or ')),
  templateVariables: z.record(z.string(), z.unknown()).describe('an object of names and values'),
  logger: live(isRequestLogger, 'a logger with the methods info and error, such as pino()'),
}

/** Defaults filled in. @throws BillfishError INVALID_OPTION for the models, or a page that has not been built */
export function readSettings(given: Models, options: RequestOptions) {
  const { maxWaiting = 256, toolFormat, reasoningFormat, templateVariables } = options
  const formats = { toolFormat, reasoningFormat }
  const models = new ServedModels(Object.fromEntries(readModels(given)), maxWaiting, formats, templateVariables)
  const page = options.page === false ? undefined : loadPage()
  const metrics = new Metrics(models)
  return {
    models,
    keys: new ApiKeys(options.apiKeys ?? []),
    metrics,
    status: new StatusReader(models, metrics),
    page,
    maxBodyBytes: options.maxBodyBytes ?? 4 << 20,
    requestTimeout: options.requestTimeout ?? 0,
    stallTimeout: options.stallTimeout ?? STALL_TIMEOUT,
    corsOrigins: options.corsOrigins ?? [],
    logger: options.logger,
  }
}
