import { BillfishError } from '../errors'

/** What a {@link ChunkQueue} asks of its producer. */
export interface Producer<T> {
  /** Appends an item to one that waits, where the producer could not stop in time or must not stop. */
  merge(waiting: T, item: T): void
  /** To bring no more items until {@link resume}. */
  pause(): void
  resume(): void
}

interface Waiting<T> {
  resolve(result: IteratorResult<T, undefined>): void
  reject(error: unknown): void
}

/**
 * A queue between one producer and one reader that never holds more than `limit` items: the producer is paused while
 * the reader is behind, and goes on once half of them have been read.
 */
export class ChunkQueue<T> {
  readonly #producer: Producer<T>
  readonly #limit: number
  readonly #items: T[] = []
  /** Calls of {@link next} that wait for an item; there are none while items wait. */
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

  /** No more items will come; the reader gets `error`, if there is one, after the last item. */
  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = { error }
    for (const reader of this.#readers.splice(0)) this.next().then(reader.resolve, reader.reject)
  }

  /** From here on the producer is never paused: what the reader has not read yet is merged beyond the limit. */
  unbound(): void {
    this.#unbounded = true
    this.#resume()
  }

  /** Makes the caller the one reader. @throws BillfishError INVALID_STATE if there has been one before */
  take(): void {
    if (this.#taken) {
      throw new BillfishError(
        'INVALID_STATE',
        'This generation has a reader already: its chunks go to one loop only. Pass them on from there, or await result() for the whole.',
      )
    }
    this.#taken = true
  }

  /** The next item, once it is there. Calls may overlap: they are answered in their order. */
  async next(): Promise<IteratorResult<T, undefined>> {
    const item = this.#items.shift()
    if (item !== undefined) {
      if (this.#items.length <= this.#limit / 2) this.#resume()
      return { value: item, done: false }
    }
    if (this.#ended && !this.#left && this.#ended.error !== undefined) {
      this.#left = true // the error is told once, as by an async generator
      throw this.#ended.error
    }
    if (this.#ended || this.#left) return { value: undefined, done: true }
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject })
    })
  }

  /** The reader reads no further: what waits is dropped, and so is all that comes. */
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
