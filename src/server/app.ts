/** The server's endpoints as a Hono app: from requests to answers, without sockets. */
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { cors } from 'hono/cors'
import { anthropicError } from './anthropic/errors'
import type { ApiKeys } from './api-keys'
import type { Endpoint } from './endpoint'
import { endpoints } from './endpoints'
import { endOf, eventStream, type StreamEnd } from './event-stream'
import type { Metrics } from './metrics'
import { openApi } from './openapi'
import type { Page } from './page'
import { asRequestError, invalidRequest, RequestError } from './request-error'
import { logRequest, type RequestLogger, requestId } from './request-log'
import { requestSignal } from './request-signal'
import type { ServedModels } from './served-models'
import type { StatusReader } from './status-reader'

export interface AppOptions {
  readonly models: ServedModels
  readonly keys: ApiKeys
  readonly metrics: Metrics
  readonly status: StatusReader
  /** What is at /; undefined for nothing. */
  readonly page: Page | undefined
  /** The largest body of a request. */
  readonly maxBodyBytes: number
  /** Milliseconds that a request may take; 0 for any. */
  readonly requestTimeout: number
  /** Milliseconds for which a client may read nothing of its stream; 0 for any. */
  readonly stallTimeout: number
  /** Where pages may come from whose scripts may ask; none by default. */
  readonly corsOrigins: readonly string[]
  readonly logger: RequestLogger | undefined
  /** Ends what is running, and refuses anything else, once it aborts. */
  readonly stopped: AbortSignal
  /** Whether new requests are refused, while running ones are answered. */
  isDraining(): boolean
}

/** What there is beside the models' endpoints. */
const OTHERS = ['/health', '/metrics', '/status.json', '/openapi.json']

/** What the log waits for, and says of a request that failed. */
type Env = { Variables: { end?: Promise<StreamEnd>; error?: unknown } }

export function createApp(options: AppOptions): Hono<Env> {
  const { keys, metrics, status, page, maxBodyBytes, corsOrigins, isDraining } = options
  const app = new Hono<Env>({ strict: false })
  app.onError((error, context) => {
    const failed = asRequestError(error)
    const { status, details } = failed
    const body = context.req.path.startsWith('/v1/messages') ? anthropicError(failed) : failed.body
    if (status === 500) context.set('error', error)
    return Response.json(body, { status, headers: details.headers ?? {} })
  })
  app.notFound(({ req }) => {
    throw new RequestError(404, 'invalid_request_error', `There is no ${req.method} ${req.path}.`)
  })

  app.use((context, next) => logged(context, next, options))
  if (corsOrigins.length > 0) app.use(cors({ origin: [...corsOrigins], maxAge: 86_400 }))
  app.get('/health', () => new Response(null, { status: isDraining() ? 503 : 200 }))
  if (page) app.get('/', page)

  app.use(async ({ req }, next) => {
    if (!keys.accept(req.raw.headers)) {
      throw new RequestError(401, 'invalid_request_error', 'The API key is missing or wrong.', {
        code: 'invalid_api_key',
        headers: { 'www-authenticate': 'Bearer' },
      })
    }
    await next()
  })
  app.get('/metrics', () => metrics.response())
  app.get('/status.json', async () => Response.json(await status.read(), { headers: { 'cache-control': 'no-store' } }))
  app.get('/openapi.json', () => Response.json(openApi(keys.areNeeded)))
  app.use(async (_, next) => {
    if (isDraining()) {
      const headers = { 'retry-after': '5' }
      throw new RequestError(503, 'server_error', 'The server is shutting down.', { headers })
    }
    await next()
  })
  const tooLarge = () => {
    throw new RequestError(413, 'invalid_request_error', `The body is larger than ${maxBodyBytes} bytes.`)
  }
  app.use(bodyLimit({ maxSize: maxBodyBytes, onError: tooLarge }))

  for (const endpoint of endpoints) {
    app.on(endpoint.method, endpoint.path, (context) => answer(endpoint, context, options))
  }
  const others = [...OTHERS, ...(page ? ['/'] : [])].map((path) => ({ path, method: 'GET' }))
  for (const { path, method } of [...endpoints, ...others]) {
    app.all(path, ({ req }) => {
      const message = `${req.path} takes ${method}, not ${req.method}.`
      throw new RequestError(405, 'invalid_request_error', message, { headers: { allow: method } })
    })
  }
  return app
}

async function answer(endpoint: Endpoint, context: Context<Env>, options: AppOptions): Promise<Response> {
  const { req } = context
  const { signal, release } = requestSignal(req.raw.signal, options.stopped, options.requestTimeout)
  try {
    const response = await endpoint.handle({
      models: options.models,
      body: endpoint.method === 'POST' ? await json(req) : undefined,
      cacheSalt: (given) => options.keys.cacheSalt(req.raw.headers, given),
      param: (name) => req.param(name) ?? '',
      signal,
      stream: (events, format) => eventStream(events, format, { stallTimeout: options.stallTimeout }),
    })
    const end = endOf(response)
    context.set('end', end)
    void end.then(release)
    return response
  } catch (error) {
    release()
    throw error
  }
}

/** Gives a request an id, and logs it once its answer has been sent; not what an open page asks each second. */
async function logged(context: Context<Env>, next: () => Promise<void>, { logger }: AppOptions): Promise<void> {
  const { method, path, raw } = context.req
  const id = requestId(raw.headers)
  const log = logRequest(logger, { id, method, path })
  await next()
  context.header('x-request-id', id)
  const { status } = context.res
  if (path === '/status.json' && status === 200) return
  const { end = endOf(context.res), error } = context.var
  void end.then(({ stalled }) => log({ status, aborted: raw.signal.aborted, stalled, error }))
}

/** Whatever its content type: curl says that it sends a form. @throws RequestError 400 */
async function json(request: { text(): Promise<string> }): Promise<unknown> {
  const text = await request.text()
  try {
    return JSON.parse(text)
  } catch (error) {
    throw invalidRequest(`The body is not JSON: ${(error as Error).message}.`)
  }
}
