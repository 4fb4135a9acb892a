import { BillfishError } from '../../src/common/errors'
import { openCheckpoint } from '../../src/open-checkpoint'

/** The BillfishError that a call throws. @throws any other error, or an Error if the call succeeds */
export async function errorOf(call: () => unknown): Promise<BillfishError> {
  try {
    await call()
  } catch (error) {
    if (error instanceof BillfishError) return error
    throw error
  }
  throw new Error('accepted')
}

/** {@link errorOf} a call with an invalid option. @throws errors with another code as well */
export async function refusal(call: () => unknown): Promise<BillfishError> {
  const error = await errorOf(call)
  if (error.code !== 'INVALID_OPTION') throw error
  return error
}

/** {@link errorOf} opening a checkpoint. */
export function openingError(directory: string): Promise<BillfishError> {
  return errorOf(() => openCheckpoint(directory))
}
