/** Table entries processed before yielding to the event loop: two to three milliseconds of work. */
export const SLICE_SIZE = 2048

/** Tasks that have yielded, in order. */
const waiting: (() => void)[] = []

/** Tasks that run at the same time have a turn of the event loop each: one turn for all would be as long as their sum. */
function resumeNext(): void {
  const resume = waiting.shift()
  if (waiting.length > 0) setImmediate(resumeNext)
  resume?.()
}

/** Lets other events run. */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(resumeNext)
  })
}

/** Milliseconds between yields to the event loop. */
const SLICE_MILLISECONDS = 4

/** Work that can be paused: a generator that yields at least every millisecond or so. */
export type CooperativeTask<Result> = Generator<void, Result, void>

/**
 * Runs a task, yielding to the event loop every few milliseconds.
 * @throws the reason of the signal if it aborts
 */
export async function runCooperatively<Result>(task: CooperativeTask<Result>, signal?: AbortSignal): Promise<Result> {
  signal?.throwIfAborted()
  for (let begun = performance.now(); ; ) {
    const { done, value } = task.next()
    if (done) return value
    if (performance.now() - begun < SLICE_MILLISECONDS) continue
    await yieldToEventLoop()
    signal?.throwIfAborted()
    begun = performance.now()
  }
}

/** Tells a hot loop when to yield, about once a millisecond; cheaper than yielding every iteration. */
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

/** Runs a task without pausing; for tasks that are known to be short. */
export function runSync<Result>(task: CooperativeTask<Result>): Result {
  for (;;) {
    const { done, value } = task.next()
    if (done) return value
  }
}

/** Items between two looks at the clock. */
const ITEMS_PER_LOOK = 64

/** Calls `body`, which is short, for each item, yielding to the event loop every few milliseconds. */
export async function forEachInSlices<Item>(items: Iterable<Item>, body: (item: Item) => void): Promise<void> {
  let count = 0
  let begun = performance.now()
  for (const item of items) {
    body(item)
    if (++count % ITEMS_PER_LOOK !== 0 || performance.now() - begun < SLICE_MILLISECONDS) continue
    await yieldToEventLoop()
    begun = performance.now()
  }
}

/** Returns a sorted copy (merge sort), yielding to the event loop between slices. */
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
