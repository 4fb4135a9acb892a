/** How many table entries are worked on before the event loop gets its turn: about ten milliseconds' worth. */
export const SLICE = 8192

/** Resolves after other events have had their turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
