import { TextDecoder } from 'node:util'
import { isMissing, withFile } from '../checkpoint/files'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { parseJsonInSlices } from './sliced-json'

/** Bytes that are read and decoded at a time: a millisecond's worth. */
const PIECE = 1024 * 1024

/**
 * Text of a file of a checkpoint, or undefined if there is no such file. It is read in pieces, so that a large one does
 * not hold the event loop.
 * @throws BillfishError INVALID_CHECKPOINT if it has more than `maxBytes` bytes, or is not UTF-8
 */
export async function readTextFile(path: string, maxBytes: number): Promise<string | undefined> {
  try {
    return await withFile(path, async (file, bytes) => {
      if (bytes > maxBytes) throw invalidCheckpoint(`${path} has ${bytes} bytes; at most ${maxBytes} are read`)
      const decoder = new TextDecoder('utf-8', { fatal: true })
      const buffer = new Uint8Array(Math.min(PIECE, bytes))
      let text = ''
      for (let position = 0; position < bytes; ) {
        const { bytesRead } = await file.read(buffer, 0, Math.min(PIECE, bytes - position), position)
        if (bytesRead === 0) {
          throw invalidCheckpoint(
            `${path} ended after ${position} bytes while ${bytes} were expected: ` +
              'it is being written or was cut off; download it again',
          )
        }
        position += bytesRead
        text += decode(decoder, buffer.subarray(0, bytesRead), position < bytes, path)
      }
      return text
    })
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

function decode(decoder: TextDecoder, bytes: Uint8Array, stream: boolean, path: string): string {
  try {
    return decoder.decode(bytes, { stream })
  } catch (error) {
    throw invalidCheckpoint(`${path} is not valid UTF-8; download it again`, error)
  }
}

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
    value = await parseJsonInSlices(text, mapAt)
  } catch (error) {
    throw invalidCheckpoint(`${path} is not valid JSON (${(error as Error).message}); download it again`, error)
  }
  if (!isObject(value)) throw invalidCheckpoint(`${path} must hold a JSON object`)
  return value
}
