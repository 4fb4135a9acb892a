import { readTextFile } from '../checkpoint/files'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { parseJsonInSlices, RefusedJson } from '../checkpoint/sliced-json'

/**
 * The JSON object in a tokenizer's file, or undefined if there is no such file. It is read in slices, so that the
 * megabytes of a vocabulary do not hold the event loop.
 * @param mapAt path of an object that is wanted as a Map, such as `model.vocab`
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function readJsonObject(
  path: string,
  maxBytes: number,
  mapAt?: string,
): Promise<Record<string, unknown> | undefined> {
  const text = await readTextFile(path, maxBytes)
  if (text === undefined) return undefined
  let value: unknown
  try {
    value = await parseJsonInSlices(text, { mapAt })
  } catch (error) {
    if (error instanceof RefusedJson) throw invalidCheckpoint(`${path} ${error.message}`, error)
    throw invalidCheckpoint(`${path} is not valid JSON (${(error as Error).message}); download it again`, error)
  }
  if (!isObject(value)) throw invalidCheckpoint(`${path} must hold a JSON object`)
  return value
}
