import { invalidCheckpoint } from './invalid'
import { type JsonOptions, parseJsonInSlices, RefusedJson } from './sliced-json'

/**
 * JSON from a checkpoint, which may be hostile: bounded as `limits` say, without holding the event loop, and without
 * silence about repeated keys.
 *
 * @param text - whole or in pieces
 * @param what - the text's name for messages, such as a path
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function parseJson(text: string | readonly string[], what: string, limits: JsonOptions): Promise<unknown> {
  if (!(typeof text === 'string' ? [text] : text).some((piece) => /\S/.test(piece))) {
    throw invalidCheckpoint(`${what} is empty; download it again`)
  }
  try {
    return await parseJsonInSlices(text, { uniqueKeys: true, ...limits })
  } catch (error) {
    if (error instanceof RefusedJson) throw invalidCheckpoint(`${what} ${error.message}`)
    if (!(error instanceof SyntaxError)) throw error
    throw invalidCheckpoint(`${what} is not valid JSON (${error.message}); download it again`, error)
  }
}

/** A JSON object, as opposed to null, an array or a plain value. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
