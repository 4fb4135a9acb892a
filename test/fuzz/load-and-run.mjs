const REFUSALS = ['INVALID_CHECKPOINT', 'UNSUPPORTED_MODEL', 'OUT_OF_MEMORY', 'NON_FINITE']

/**
 * A `load` for the checkpoint fuzzer: loads what still loads and computes one step, whose numbers may be anything. Every
 * error but a refusal of the checkpoint, or of numbers that are not finite, is passed on.
 */
export function loadAndRun(loadModel) {
  return async (directory) => {
    try {
      const model = await loadModel(directory, { deviceMap: 'cpu', maxModelLength: 64, maxSequences: 1 })
      try {
        await model.forward([1, 2, 3])
      } finally {
        await model.dispose()
      }
    } catch (error) {
      if (error?.name !== 'BillfishError' || !REFUSALS.includes(error.code)) throw error
    }
  }
}
