import { BillfishError } from '../common/errors'

/** Callbacks to the producer of a {@link ChunkQueue}. */
export interface Producer<T> {
  /** Merges an item into a queued one, if the producer could not pause in time. */
  merge(waiting: T, item: T): void
  /** Stops producing until {@link resume}. */
  pause(): void
  resume(): void
}

interface Waiting<T> {
  resolve(result: IteratorResult<T, undefined>): void
  reject(error: unknown): void
}

/**
 * A bounded queue between one producer and one reader. It holds at most `limit` items: the producer is paused while the
 * reader is behind and resumed when half of them have been read.
 */
export class ChunkQueue<T> {
  readonly #producer: Producer<T>
  readonly #limit: number
  readonly #items: T[] = []
  /** Pending {@link next} calls; empty while items are queued. */
  readonly #readers: Waiting<T>[] = []
  #ended: { error?: unknown } | undefined
  #taken = false
  #left = false
  #paused = false
  #unbounded = false

  constructor(limit: number, producer: Producer<T>) {
    this.#limit = limit
    this.#producer = producer
  }

  push(item: T): void {
    if (this.#left) return
    const reader = this.#readers.shift()
    if (reader) {
      reader.resolve({ value: item, done: false })
      return
    }
    const last = this.#items.at(-1)
    if (last !== undefined && this.#items.length >= this.#limit) this.#producer.merge(last, item)
    else this.#items.push(item)
    if (this.#items.length >= this.#limit && !this.#paused && !this.#unbounded) {
      this.#paused = true
      this.#producer.pause()
    }
  }

  /** Ends the queue; the reader gets `error`, if any, after the last item. */
  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = { error }
    for (const reader of this.#readers.splice(0)) this.next().then(reader.resolve, reader.reject)
  }

  /** Never pauses the producer again: unread items are merged beyond the limit. */
  unbound(): void {
    this.#unbounded = true
    this.#resume()
  }

  /** Claims the queue for the caller, its only reader. @throws BillfishError INVALID_STATE if it is claimed already */
  claim(): void {
    if (this.#taken) {
      throw new BillfishError(
        'INVALID_STATE',
        'This generation already has a reader: only one loop can receive its chunks. Forward them from there, or await result().',
      )
    }
    this.#taken = true
  }

  /** The next item. Calls may overlap; they are answered in order. */
  async next(): Promise<IteratorResult<T, undefined>> {
    const item = this.#items.shift()
    if (item !== undefined) {
      if (this.#items.length <= this.#limit / 2) this.#resume()
      return { value: item, done: false }
    }
    if (this.#ended && !this.#left && this.#ended.error !== undefined) {
      this.#left = true // the error is reported once, as by an async generator
      throw this.#ended.error
    }
    if (this.#ended || this.#left) return { value: undefined, done: true }
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject })
    })
  }

  /** The reader stops reading: queued and future items are dropped. */
  leave(): void {
    this.#left = true
    this.#items.length = 0
    for (const reader of this.#readers.splice(0)) reader.resolve({ value: undefined, done: true })
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#producer.resume()
  }
}
