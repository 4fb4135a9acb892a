import { yieldToEventLoop } from '../common/event-loop'

/** Milliseconds of encoding after which other work has its turn. */
const TURN = 8

/**
 * Encodes inputs one after the other, and starts each as soon as it is encoded: the runner computes together what is
 * there. The first failure ends the others.
 * @returns the results in the order of the inputs, and the number of tokens
 */
export async function computeAll<Input, Output>(
  inputs: readonly Input[],
  signal: AbortSignal,
  encode: (input: Input) => Promise<readonly number[]>,
  compute: (tokens: readonly number[], signal: AbortSignal, input: Input) => Promise<Output>,
): Promise<{ outputs: Output[]; promptTokens: number }> {
  const failure = new AbortController()
  const either = AbortSignal.any([signal, failure.signal])
  const outputs: Promise<Output>[] = []
  let promptTokens = 0
  let turn = performance.now()
  try {
    for (const input of inputs) {
      either.throwIfAborted()
      const tokens = await encode(input)
      promptTokens += tokens.length
      const output = compute(tokens, either, input)
      output.catch((error) => failure.abort(error))
      outputs.push(output)
      if (performance.now() - turn < TURN) continue
      await yieldToEventLoop()
      turn = performance.now()
    }
    return { outputs: await Promise.all(outputs), promptTokens }
  } catch (error) {
    failure.abort(error)
    await Promise.allSettled(outputs)
    throw error
  }
}
