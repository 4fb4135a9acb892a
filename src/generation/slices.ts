/** How many table entries are worked on before the event loop gets its turn: two or three milliseconds' worth. */
export const SLICE = 2048

/** Resolves after other events have had their turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
