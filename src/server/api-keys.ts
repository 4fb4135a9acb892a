import { createHash, timingSafeEqual } from 'node:crypto'

/** The keys of which every request must bring one. Without any, no key is asked for. */
export class ApiKeys {
  readonly #digests: readonly Buffer[]

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
    const bearer = /^bearer +(\S+) *$/i.exec(headers.get('authorization') ?? '')?.[1]
    const given = digest(bearer ?? headers.get('x-api-key') ?? '')
    let found = false
    for (const own of this.#digests) found = timingSafeEqual(own, given) || found
    return found
  }
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
