import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

/** The keys of which every request must bring one. Without any, no key is asked for. */
export class ApiKeys {
  readonly #digests: readonly Buffer[]
  readonly #secret = randomBytes(32)

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest)
  }

  /** Whether requests must bring one. */
  get areNeeded(): boolean {
    return this.#digests.length > 0
  }

  /** Takes as long whatever the key is: digests are compared, all of them to the end. */
  accept(headers: Headers): boolean {
    if (!this.areNeeded) return true
    const given = digestOfKey(headers)
    let found = false
    for (const own of this.#digests) found = timingSafeEqual(own, given) || found
    return found
  }

  /**
   * What separates the prefixes of a request from others in the cache: its key and its own salt, so that nobody learns from
   * times or cached tokens what another key has asked. Without keys, all requests with the same salt are one party.
   */
  cacheSalt(headers: Headers, given: string | undefined): string | undefined {
    if (!this.areNeeded) return given
    return createHmac('sha256', this.#secret)
      .update(digestOfKey(headers))
      .update(given ?? '')
      .digest('base64')
  }
}

function digestOfKey(headers: Headers): Buffer {
  const bearer = /^bearer +(\S+) *$/i.exec(headers.get('authorization') ?? '')?.[1]
  return digest(bearer ?? headers.get('x-api-key') ?? '')
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
