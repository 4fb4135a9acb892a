/**
 * Byte-pair merging by rank, as in tiktoken: the adjacent pair whose concatenation is the token of lowest rank is
 * merged first (the leftmost of equals), until no pair is a token. Unlike BPE with a merge list, any two adjacent parts
 * may form a token, whichever pair the training had merged.
 *
 * `piece` is a byte string: one Latin-1 character per byte. O(n log n), so long pieces (a megabyte of one letter) are
 * not a problem.
 * @param ranks token -> rank; must contain all 256 single bytes
 * @returns ranks of the tokens of `piece`
 */
export function bytePairMerge(piece: string, ranks: ReadonlyMap<string, number>): number[] {
  const whole = ranks.get(piece)
  if (whole !== undefined) return [whole]
  const length = piece.length
  // Parts form a linked list over byte positions: a part spans `start` to next[start], and is gone once its left
  // neighbor has absorbed it.
  const next = new Int32Array(length + 1)
  const previous = new Int32Array(length + 1)
  for (let start = 0; start <= length; start++) {
    next[start] = start + 1
    previous[start] = start - 1
  }
  // pairRank[start]: rank of the part at `start` joined with the next one; -1 if none.
  const pairRank = new Int32Array(length).fill(-1)
  const queue = new PairQueue()
  const measure = (start: number): void => {
    const middle = next[start] as number
    const rank = middle < length ? ranks.get(piece.slice(start, next[middle])) : undefined
    pairRank[start] = rank ?? -1
    if (rank !== undefined) queue.push(rank, start)
  }
  for (let start = 0; start < length; start++) measure(start)

  for (let pair = queue.pop(); pair !== undefined; pair = queue.pop()) {
    const { rank, start } = pair
    if (pairRank[start] !== rank) continue // stale entry
    const absorbed = next[start] as number
    const end = next[absorbed] as number
    pairRank[absorbed] = -1
    next[start] = end
    previous[end] = start
    measure(start)
    if (start > 0) measure(previous[start] as number)
  }

  const tokens: number[] = []
  for (let start = 0; start < length; start = next[start] as number) {
    tokens.push(ranks.get(piece.slice(start, next[start])) as number)
  }
  return tokens
}

/** Binary heap of (rank, start), lowest rank first, then lowest start, packed into one number. */
class PairQueue {
  static readonly #STARTS = 2 ** 31
  readonly #heap: number[] = []

  push(rank: number, start: number): void {
    const heap = this.#heap
    const key = rank * PairQueue.#STARTS + start
    let index = heap.length
    heap.push(key)
    while (index > 0) {
      const parent = (index - 1) >> 1
      const parentKey = heap[parent] as number
      if (parentKey <= key) break
      heap[index] = parentKey
      index = parent
    }
    heap[index] = key
  }

  pop(): { rank: number; start: number } | undefined {
    const heap = this.#heap
    const top = heap[0]
    if (top === undefined) return undefined
    const key = heap.pop() as number
    const length = heap.length
    let index = 0
    while (length > 0) {
      let child = 2 * index + 1
      if (child >= length) break
      if (child + 1 < length && (heap[child + 1] as number) < (heap[child] as number)) child++
      const childKey = heap[child] as number
      if (childKey >= key) break
      heap[index] = childKey
      index = child
    }
    if (length > 0) heap[index] = key
    return { rank: Math.floor(top / PairQueue.#STARTS), start: top % PairQueue.#STARTS }
  }
}
