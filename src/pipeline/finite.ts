import { BillfishError } from '../errors'

/**
 * Refuses hidden states, or logits, that are not finite. What is in the residual stream stays there, so that the last state tells of
 * all; the others are searched only to name the module.
 * @param states [rows * width] each: the embedding, then each layer's output; or the logits alone
 * @param modules that gave them
 * @param position of the first row
 * @throws BillfishError NON_FINITE
 */
export function checkHiddenStates(
  states: readonly Float32Array[],
  modules: readonly string[],
  width: number,
  position: number,
): void {
  const last = states.at(-1)
  if (last === undefined || firstNonFinite(last) === -1) return
  const layer = states.findIndex((state) => firstNonFinite(state) !== -1)
  const state = states[layer] as Float32Array
  const at = firstNonFinite(state)
  const where = `at position ${position + Math.floor(at / width)}, channel ${at % width}`
  throw new BillfishError(
    'NON_FINITE',
    `The output of ${modules[layer]} is ${state[at]} ${where}: weights are damaged, or numbers exceed their format. Check the checkpoint's files, or load it with dtype 'float32'; with hiddenStates the first layer is named.`,
  )
}

/** A loop: `findIndex` takes ten times as long. */
function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number
    if (value - value !== 0) return i
  }
  return -1
}
