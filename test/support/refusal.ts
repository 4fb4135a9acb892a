import { BillfishError } from '../../src/index'

/** The INVALID_OPTION error that a call throws. @throws any other error, or an Error if the call succeeds */
export async function refusal(call: () => unknown): Promise<BillfishError> {
  try {
    await call()
  } catch (error) {
    if (error instanceof BillfishError && error.code === 'INVALID_OPTION') return error
    throw error
  }
  throw new Error('accepted')
}
