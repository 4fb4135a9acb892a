/** A Hub on this machine, with a second server for large files, as the real one has. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

export const COMMIT = 'c0ffee00'.repeat(5)

/** An entry of a list of files, as the Hub sends it. */
export type Entry = Record<string, unknown>

/** Handles a request instead of the fake; false to leave it alone. */
type Handler = (request: IncomingMessage, response: ServerResponse) => boolean

export class FakeHub {
  /** Every request: method, path, and the headers that matter. */
  readonly requests: {
    readonly server: 'hub' | 'cdn'
    readonly url: string
    readonly headers: IncomingMessage['headers']
  }[] = []
  commit = COMMIT
  /** Its address, also once it is closed. */
  url = ''
  /** Called first for requests to the Hub, and to the server of large files. */
  onHub: Handler = () => false
  onCdn: Handler = () => false
  /** Changes the list of files. */
  onList: (entries: Entry[]) => Entry[] = (entries) => entries
  /** Files of a page of the list. */
  pageSize = 1000

  readonly #servers: readonly Server[]

  private constructor(
    readonly repo: string,
    readonly files: Map<string, Buffer>,
  ) {
    this.#servers = [
      createServer((request, response) => {
        this.requests.push({ server: 'hub', url: request.url ?? '', headers: request.headers })
        if (!this.onHub(request, response)) this.#answer(request, response)
      }),
      createServer((request, response) => {
        this.requests.push({ server: 'cdn', url: request.url ?? '', headers: request.headers })
        if (!this.onCdn(request, response))
          this.#sendFile(decodeURIComponent(request.url?.slice(1) ?? ''), request, response)
      }),
    ]
  }

  static async start(repo: string, files: Readonly<Record<string, Buffer | string | object>>): Promise<FakeHub> {
    const contents = Object.entries(files).map(([path, content]): [string, Buffer] => {
      if (Buffer.isBuffer(content)) return [path, content]
      return [path, Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))]
    })
    const hub = new FakeHub(repo, new Map(contents))
    await Promise.all(hub.#servers.map((server) => new Promise<void>((done) => server.listen(0, '127.0.0.1', done))))
    hub.url = hub.#urlOf(0)
    return hub
  }

  /** Paths of the files that were asked for, large ones at their own server. */
  get served(): string[] {
    return this.requests
      .filter(({ server, url }) => server === 'cdn' || url.includes('/resolve/'))
      .map(({ url }) => url)
  }

  async close(): Promise<void> {
    for (const server of this.#servers) server.closeAllConnections()
    await Promise.all(this.#servers.map((server) => new Promise<unknown>((done) => server.close(done))))
  }

  #urlOf(server: number): string {
    const { port } = (this.#servers[server] as Server).address() as AddressInfo
    return `http://127.0.0.1:${port}`
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '', this.url)
    const [, tree] = /^\/api\/models\/(.+)\/tree\/[^/]+$/.exec(pathname) ?? []
    const [, info, revision = ''] = /^\/api\/models\/(.+)\/revision\/([^/]+)$/.exec(pathname) ?? []
    const [, file, , path = ''] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname) ?? []
    const name = decodeURIComponent(path)
    if ((tree ?? info ?? file) !== this.repo) refuse(response, 401, 'RepoNotFound')
    else if (info !== undefined) {
      const isKnown = ['main', 'refs%2Fpr%2F1', this.commit].includes(revision)
      if (isKnown) send(response, { sha: this.commit })
      else refuse(response, 404, 'RevisionNotFound')
    } else if (tree !== undefined) this.#sendList(Number(searchParams.get('cursor') ?? 0), response)
    else if (!this.files.has(name)) refuse(response, 404, 'EntryNotFound')
    else if (isLarge(name)) {
      response.writeHead(302, { location: `${this.#urlOf(1)}/${encodeURIComponent(name)}` }).end()
    } else this.#sendFile(name, request, response)
  }

  #sendList(from: number, response: ServerResponse): void {
    const entries = [...this.files].map(([path, content]) => entryOf(path, content))
    const all = this.onList([{ type: 'directory', path: 'original', oid: '0'.repeat(40), size: 0 }, ...entries])
    const next = from + this.pageSize
    if (next < all.length) {
      response.setHeader('link', `<${this.url}/api/models/${this.repo}/tree/${this.commit}?cursor=${next}>; rel="next"`)
    }
    send(response, all.slice(from, next))
  }

  #sendFile(name: string, { headers }: IncomingMessage, response: ServerResponse): void {
    const content = this.files.get(name) as Buffer
    const [, start] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? []
    if (start === undefined) {
      response.writeHead(200, { 'content-length': content.length, etag: '"x"' }).end(content)
    } else if (Number(start) >= content.length) {
      response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end()
    } else {
      const rest = content.subarray(Number(start))
      const range = `bytes ${start}-${content.length - 1}/${content.length}`
      response.writeHead(206, { 'content-range': range, 'content-length': rest.length }).end(rest)
    }
  }
}

/** The files of a directory, for {@link FakeHub.start}. */
export function filesIn(directory: string): Record<string, Buffer> {
  const names = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile())
  return Object.fromEntries(names.map(({ name }) => [name, readFileSync(join(directory, name))]))
}

/** How the cache names a file's content: sha256 of large files, git's sha1 of others. */
export function digestOf(path: string, content: Buffer): string {
  if (isLarge(path)) return createHash('sha256').update(content).digest('hex')
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
}

function entryOf(path: string, content: Buffer): Entry {
  const size = content.length
  if (!isLarge(path)) return { type: 'file', path, size, oid: digestOf(path, content) }
  const lfs = { oid: digestOf(path, content), size, pointerSize: 134 }
  return { type: 'file', path, size, oid: 'a'.repeat(40), lfs, xetHash: 'b'.repeat(64) }
}

function isLarge(path: string): boolean {
  return /\.(safetensors|bin|gguf)$/.test(path)
}

function send(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

export function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code }).end('{"error":"refused"}')
}
