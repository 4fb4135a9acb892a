import { isMissing, readExactly, withFile } from '../checkpoint/files'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { decodeUtf8, isObject } from '../checkpoint/json'

/**
 * Text of a file of a checkpoint, or undefined if there is no such file.
 * @throws BillfishError INVALID_CHECKPOINT if it has more than `maxBytes` bytes, or is not UTF-8
 */
export async function readTextFile(path: string, maxBytes: number): Promise<string | undefined> {
  try {
    return await withFile(path, async (file, bytes) => {
      if (bytes > maxBytes) throw invalidCheckpoint(`${path} has ${bytes} bytes; at most ${maxBytes} are read`)
      return decodeUtf8(await readExactly(file, 0, bytes, path), path)
    })
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/**
 * The JSON object in a tokenizer's file, or undefined if there is no such file. Unlike the reader of config.json it does
 * not walk the text before parsing it, which would hold the event loop twice for the megabytes of a vocabulary.
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function readJsonObject(path: string, maxBytes: number): Promise<Record<string, unknown> | undefined> {
  const text = await readTextFile(path, maxBytes)
  if (text === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalidCheckpoint(`${path} is not valid JSON (${(error as Error).message}); download it again`, error)
  }
  if (!isObject(value)) throw invalidCheckpoint(`${path} must hold a JSON object`)
  return value
}
