import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { BillfishError } from '../errors'

/** Text of a small file of a checkpoint, or undefined if there is no such file. Refuses more than `maxBytes`. */
export async function readTextFile(directory: string, name: string, maxBytes: number): Promise<string | undefined> {
  const path = join(directory, name)
  try {
    const { size } = await stat(path)
    if (size > maxBytes) {
      throw new BillfishError(
        'INVALID_CHECKPOINT',
        `${path} is ${size} bytes; at most ${maxBytes} bytes are read from such a file`,
      )
    }
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) {
      return undefined
    }
    throw error
  }
}

/** The JSON object in a small file of a checkpoint, or undefined if there is no such file. */
export async function readJsonObject(
  directory: string,
  name: string,
  maxBytes: number,
): Promise<Record<string, unknown> | undefined> {
  const text = await readTextFile(directory, name, maxBytes)
  if (text === undefined) return undefined
  const path = join(directory, name)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new BillfishError('INVALID_CHECKPOINT', `${path} is not JSON: ${(error as Error).message}`, { cause: error })
  }
  if (!isObject(value)) throw new BillfishError('INVALID_CHECKPOINT', `${path} must hold a JSON object`)
  return value
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
