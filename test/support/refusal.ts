import { BillfishError } from '../../src/index'

/** The INVALID_OPTION that a call ends with. @throws what else it throws, or an Error if it is accepted */
export async function refusal(call: () => unknown): Promise<BillfishError> {
  try {
    await call()
  } catch (error) {
    if (error instanceof BillfishError && error.code === 'INVALID_OPTION') return error
    throw error
  }
  throw new Error('accepted')
}
