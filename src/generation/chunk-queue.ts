/** A queue between a producer that never waits and one reader that may. */
export class ChunkQueue<T> implements AsyncIterable<T> {
  private readonly items: T[] = []
  private wake: (() => void) | undefined
  private ended: { error?: unknown } | undefined

  push(item: T): void {
    this.items.push(item)
    this.wake?.()
  }

  /** No more items will come; the reader gets `error`, if there is one, after the last item. */
  end(error?: unknown): void {
    this.ended ??= { error }
    this.wake?.()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const item = this.items.shift()
      if (item !== undefined) {
        yield item
      } else if (this.ended) {
        if (this.ended.error !== undefined) throw this.ended.error
        return
      } else {
        await new Promise<void>((resolve) => {
          this.wake = resolve
        })
        this.wake = undefined
      }
    }
  }
}
