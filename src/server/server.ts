import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { BillfishError } from '../common/errors'
import type { Model } from '../model'
import { ApiKeys } from './api-keys'
import { createApp } from './app'
import { Metrics } from './metrics'
import type { RequestLogger } from './request-log'
import { ServedModels } from './served-models'

export interface ServerOptions {
  /** Default 127.0.0.1: this machine alone. */
  readonly host?: string | undefined
  /** Default 8000; 0 for any that is free. */
  readonly port?: number | undefined
  /** Keys of which every request must bring one, except for /health. Default: none is asked for. */
  readonly apiKeys?: readonly string[] | undefined
  /** The largest body of a request in bytes. Default 4 MiB. */
  readonly maxBodyBytes?: number | undefined
  /** Sequences of a model that may wait for their turn; a request that finds more gets the status 429. Default 256. */
  readonly maxWaiting?: number | undefined
  /** How long a request may take, in milliseconds, before it ends with the status 504. Default 0: as long as it takes. */
  readonly requestTimeout?: number | undefined
  /** Where pages may come from whose scripts may ask: `https://example.com`, or `*` for anywhere. Default: nowhere. */
  readonly corsOrigins?: readonly string[] | undefined
  /** Is given a line for each request: a logger of pino. Default: none. */
  readonly logger?: RequestLogger | undefined
  /** How long {@link RunningServer.close} waits for running requests, in milliseconds. Default 30 seconds. */
  readonly drainTimeout?: number | undefined
}

/** A server that listens. */
export interface RunningServer {
  /** Where it listens: `http://127.0.0.1:8000`. */
  readonly url: string
  /**
   * Refuses new requests, answers running ones for as long as `drainTimeout` allows, aborts the rest, and stops to
   * listen. Idempotent.
   */
  close(): Promise<void>
}

/** Milliseconds of silence after which a connection is probed. */
const KEEP_ALIVE_PROBE = 30_000

/** How often a draining server looks whether it is done. */
const DRAIN_INTERVAL = 20

/**
 * Serves models over HTTP, as OpenAI's clients expect.
 * @param models by the names that requests ask for; the first one answers requests without a name
 * @throws BillfishError INVALID_OPTION if it cannot listen there
 */
export async function startServer(
  models: Readonly<Record<string, Model>>,
  options: ServerOptions = {},
): Promise<RunningServer> {
  const { host = '127.0.0.1', port = 8000, drainTimeout = 30_000 } = options
  const stop = new AbortController()
  let running = 0
  let closing: Promise<void> | undefined
  const served = new ServedModels(models, options.maxWaiting ?? 256)
  const metrics = new Metrics(served)
  const app = createApp({
    models: served,
    keys: new ApiKeys(options.apiKeys ?? []),
    metrics,
    maxBodyBytes: options.maxBodyBytes ?? 1 << 22,
    requestTimeout: options.requestTimeout ?? 0,
    corsOrigins: options.corsOrigins ?? [],
    logger: options.logger,
    stopped: stop.signal,
    isDraining: () => closing !== undefined,
  })
  const server = await listen(app.fetch, host, port)
  // Proxies keep idle connections for a minute; closing first would reset a request on its way.
  server.keepAliveTimeout = 75_000
  server.headersTimeout = 80_000
  server.on('connection', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_PROBE)) // finds clients whose cable was pulled
  server.on('request', (_request, response) => {
    running++
    response.once('close', () => running--)
  })
  const close = async () => {
    const deadline = Date.now() + drainTimeout
    const closed = new Promise((resolve) => server.close(resolve))
    while (running > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, DRAIN_INTERVAL))
    stop.abort(new BillfishError('DISPOSED', 'The server was stopped.'))
    if (running === 0) server.closeIdleConnections()
    else setTimeout(() => server.closeAllConnections(), DRAIN_INTERVAL) // once the last events are written
    await closed
    metrics.close()
  }
  return {
    url: urlOf(server.address() as AddressInfo),
    close() {
      closing ??= close()
      return closing
    },
  }
}

function listen(fetch: Parameters<typeof serve>[0]['fetch'], hostname: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch, hostname, port }, () => resolve(server)) as Server
    server.once('error', ({ code, message }: NodeJS.ErrnoException) => {
      const why = code === 'EADDRINUSE' ? 'something else listens there; choose another port' : message
      reject(new BillfishError('INVALID_OPTION', `The server cannot listen on port ${port} of ${hostname}: ${why}.`))
    })
  })
}

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
