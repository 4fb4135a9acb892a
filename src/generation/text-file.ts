import { readTextFile } from '../checkpoint/files'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { parseJsonInSlices, RefusedJson } from '../checkpoint/sliced-json'
import { SLICE_SIZE, yieldToEventLoop } from '../common/event-loop'

/**
 * Reads a JSON object from a tokenizer file in slices, so that megabytes of vocabulary do not block the event loop;
 * undefined if the file does not exist.
 * @param mapAt path of an object to read as a Map, such as `model.vocab`
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

/** Limits of a file with one token or merge per line. */
export interface LineLimits {
  readonly bytes: number
  readonly lines: number
  /** Maximum characters per line. */
  readonly length: number
}

/**
 * Calls `body` for each line of a file, without line terminator (`\n` or `\r\n`), with its 1-based number. Yields to
 * the event loop.
 * @returns whether the file exists
 * @throws BillfishError INVALID_CHECKPOINT; errors thrown by `body`
 */
export async function forEachLine(
  path: string,
  limits: LineLimits,
  body: (line: string, number: number) => void,
): Promise<boolean> {
  const pieces = await readTextFile(path, limits.bytes)
  if (pieces === undefined) return false
  let number = 0
  const take = (line: string) => {
    if (++number > limits.lines) throw invalidCheckpoint(`${path} has more than ${limits.lines} lines`)
    if (line.length > limits.length) {
      throw invalidCheckpoint(`${path}: line ${number} has more than ${limits.length} characters`)
    }
    body(line.endsWith('\r') ? line.slice(0, -1) : line, number)
  }
  let rest = ''
  for (const piece of pieces) {
    if (rest.length > limits.length) break // take() reports it
    const text = rest + piece
    let start = 0
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      take(text.slice(start, end))
      start = end + 1
      if (number % SLICE_SIZE === 0) await yieldToEventLoop()
    }
    rest = text.slice(start)
    await yieldToEventLoop()
  }
  if (rest !== '') take(rest)
  return true
}
