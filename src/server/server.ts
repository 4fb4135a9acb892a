import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { BillfishError } from '../common/errors'
import type { Models } from '../named-models'
import { optionsOf, readOptions } from '../options/read-options'
import { text, whole } from '../options/values'
import { createApp } from './app'
import { type RequestOptions, readSettings, requestOptions } from './options'

/** Options of {@link createServer}. */
export interface ServerOptions extends RequestOptions {
  /** Where to listen. Default 127.0.0.1: this machine alone. */
  readonly host?: string | undefined
  /** Default 8000; 0 for any that is free. */
  readonly port?: number | undefined
  /** How long {@link RunningServer.close} waits for running requests, in milliseconds. Default 30 seconds. */
  readonly drainTimeout?: number | undefined
}

const serverOptions = optionsOf<ServerOptions>('createServer()', {
  ...requestOptions,
  host: text(),
  port: whole(0, 65_535),
  drainTimeout: whole(0, 2 ** 31 - 1, 'a whole number of milliseconds'),
})

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
 * Serves models over HTTP, as `billfish serve` does.
 * @example
 * ```js
 * const server = await createServer({ qwen: model }, { port: 8000 })
 * console.log(server.url)
 * ```
 * @returns once it listens
 * @throws BillfishError INVALID_OPTION, also if it cannot listen there
 */
export async function createServer(models: Models, options: ServerOptions = {}): Promise<RunningServer> {
  const own = readOptions(serverOptions, options)
  const { host = '127.0.0.1', port = 8000, drainTimeout = 30_000 } = own
  const stop = new AbortController()
  let running = 0
  let closing: Promise<void> | undefined
  const settings = readSettings(models, own)
  const app = createApp({ ...settings, stopped: stop.signal, isDraining: () => closing !== undefined })
  const server = await listen(app.fetch, host, port).catch((error) => {
    settings.metrics.close()
    throw error
  })
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
    settings.metrics.close()
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
