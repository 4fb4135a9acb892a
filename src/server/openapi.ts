/** GET /openapi.json: the endpoints and the fields of their requests, as they are checked. */
import { z } from 'zod'
import type { Endpoint } from './endpoint'
import { endpoints } from './endpoints'

/** @param isProtected whether requests need a key */
export function openApi(isProtected: boolean) {
  return {
    openapi: '3.1.0',
    info: { title: 'billfish', version: '1', description: 'Language models, for the clients of OpenAI and vLLM.' },
    paths: Object.fromEntries(endpoints.map((endpoint) => [pathOf(endpoint), pathItem(endpoint)])),
    components: {
      schemas: { Error: ERROR },
      securitySchemes: { key: { type: 'http', scheme: 'bearer' } },
    },
    ...(isProtected && { security: [{ key: [] }] }),
  }
}

const ERROR = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: {
        message: { type: 'string' },
        type: { type: 'string' },
        param: { type: ['string', 'null'] },
        code: { type: ['string', 'null'] },
      },
    },
  },
}

/** Hono's `/v1/models/:name{.+}` is `/v1/models/{name}`. */
function pathOf({ path }: Endpoint): string {
  return path.replaceAll(/:(\w+)(\{[^}]*\})?/g, '{$1}')
}

function pathItem(endpoint: Endpoint) {
  const parameters = [...pathOf(endpoint).matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  const error = {
    description: 'An error',
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
  }
  const { fields, method, summary } = endpoint
  return {
    [method.toLowerCase()]: {
      summary,
      ...(parameters.length > 0 && { parameters }),
      ...(fields && {
        requestBody: { required: true, content: { 'application/json': { schema: schemaOf(fields) } } },
      }),
      responses: {
        200: {
          description: 'The answer; of a request with stream: true, as server-sent events',
          content: { 'application/json': {}, ...(fields && { 'text/event-stream': {} }) },
        },
        default: error,
      },
    },
  }
}

/** What requests may hold, rather than what checking makes of it. */
function schemaOf(fields: z.ZodType) {
  const { $schema: _, ...schema } = z.toJSONSchema(fields, { io: 'input' })
  return schema
}
