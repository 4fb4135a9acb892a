/** The server's endpoints as a Hono app: from requests to answers, without sockets. */
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import type { ApiKeys } from './api-keys'
import { chatCompletions } from './openai/chat-completions'
import { describeModel, listModels } from './openai/models'
import { asRequestError, invalidRequest, RequestError } from './request-error'
import type { ServedModels } from './served-models'

export interface AppOptions {
  readonly models: ServedModels
  readonly keys: ApiKeys
  /** The largest body of a request. */
  readonly maxBodyBytes: number
  /** Ends what is running, and refuses anything else, once it aborts. */
  readonly stopped: AbortSignal
  /** Whether new requests are refused, while running ones are answered. */
  isDraining(): boolean
}

export function createApp({ models, keys, maxBodyBytes, stopped, isDraining }: AppOptions): Hono {
  const app = new Hono({ strict: false })
  app.onError((error) => {
    const { status, body, details } = asRequestError(error)
    return Response.json(body, { status, headers: details.headers ?? {} })
  })
  app.notFound(({ req }) => {
    throw new RequestError(404, 'invalid_request_error', `There is no ${req.method} ${req.path}.`)
  })

  app.get('/health', () => new Response(null, { status: isDraining() ? 503 : 200 }))

  app.use(async ({ req }, next) => {
    if (!keys.accept(req.raw.headers)) {
      throw new RequestError(401, 'invalid_request_error', 'The API key is missing or wrong.', {
        code: 'invalid_api_key',
        headers: { 'www-authenticate': 'Bearer' },
      })
    }
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

  app.get('/v1/models', () => Response.json(listModels(models)))
  app.get('/v1/models/:name{.+}', ({ req }) => Response.json(describeModel(models, req.param('name'))))
  app.post('/v1/chat/completions', async ({ req }) =>
    chatCompletions(models, await json(req), AbortSignal.any([req.raw.signal, stopped])),
  )
  for (const [path, allow] of [
    ['/health', 'GET'],
    ['/v1/models', 'GET'],
    ['/v1/models/:name{.+}', 'GET'],
    ['/v1/chat/completions', 'POST'],
  ] as const) {
    app.all(path, ({ req }) => {
      const message = `${req.path} takes ${allow}, not ${req.method}.`
      throw new RequestError(405, 'invalid_request_error', message, { headers: { allow } })
    })
  }
  return app
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
