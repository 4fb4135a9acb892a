/** How many table entries are worked on before the event loop gets its turn: two or three milliseconds' worth. */
export const SLICE_SIZE = 2048

/** Resolves after other events have had their turn. */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** How many milliseconds of {@link Steps} go by before the event loop gets its turn. */
const TURN = 4

/** Work that can pause wherever it yields: at least every millisecond or so. */
export type CooperativeTask<Result> = Generator<void, Result, void>

/**
 * Does the work; other events have their turn every few milliseconds.
 * @throws the signal's reason once it aborts
 */
export async function runCooperatively<Result>(work: CooperativeTask<Result>, signal?: AbortSignal): Promise<Result> {
  signal?.throwIfAborted()
  for (let begun = performance.now(); ; ) {
    const { done, value } = work.next()
    if (done) return value
    if (performance.now() - begun < TURN) continue
    await yieldToEventLoop()
    signal?.throwIfAborted()
    begun = performance.now()
  }
}

/** Tells a hot loop when to yield, about once a millisecond: a yield takes longer than to ask. */
export class YieldTimer {
  #asked = 0
  #yielded = performance.now()

  isDue(): boolean {
    if (++this.#asked % 8 !== 0) return false
    const now = performance.now()
    if (now - this.#yielded < 1) return false
    this.#yielded = now
    return true
  }
}

/** Does the work in one go: for what is known to be little. */
export function runSync<Result>(work: CooperativeTask<Result>): Result {
  for (;;) {
    const { done, value } = work.next()
    if (done) return value
  }
}

/** Calls `body` for each item; other events have their turn between slices. */
export async function forEachInSlices<Item>(items: Iterable<Item>, body: (item: Item) => void): Promise<void> {
  let count = 0
  for (const item of items) {
    body(item)
    if (++count % SLICE_SIZE === 0) await yieldToEventLoop()
  }
}

/** Sorts a copy of the items, by merging sorted slices; other events have their turn between them. */
export async function sortInSlices<Item>(
  items: readonly Item[],
  compare: (a: Item, b: Item) => number,
): Promise<Item[]> {
  let runs: Item[][] = []
  for (let at = 0; at < items.length; at += SLICE_SIZE) {
    runs.push(items.slice(at, at + SLICE_SIZE).sort(compare))
    await yieldToEventLoop()
  }
  while (runs.length > 1) {
    const merged: Item[][] = []
    for (let i = 0; i < runs.length; i += 2) {
      merged.push(await mergeInSlices(runs[i] as Item[], runs[i + 1] ?? [], compare))
    }
    runs = merged
  }
  return runs[0] ?? []
}

async function mergeInSlices<Item>(
  a: readonly Item[],
  b: readonly Item[],
  compare: (a: Item, b: Item) => number,
): Promise<Item[]> {
  const merged: Item[] = []
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const takeA = j === b.length || (i < a.length && compare(a[i] as Item, b[j] as Item) <= 0)
    merged.push(takeA ? (a[i++] as Item) : (b[j++] as Item))
    if (merged.length % SLICE_SIZE === 0) await yieldToEventLoop()
  }
  return merged
}
