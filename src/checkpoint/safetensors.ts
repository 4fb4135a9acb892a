/**
 * Reads the header of a safetensors file:
 *
 *     0        8               8 + H                                   end of file
 *     | H: u64 | H bytes JSON  | data: tensors back to back, no holes  |
 *
 *     { "__metadata__": { "format": "pt" },
 *       "model.norm.weight": { "dtype": "F16", "shape": [128], "data_offsets": [0, 256] }, ... }
 *
 * Offsets count from the start of the data. Everything else trusts the header, so whatever the format forbids is
 * rejected here, with the numbers.
 */

import { forEachInSlices, sortInSlices } from '../common/event-loop'
import { ELEMENT_BYTES, type TensorRef } from '../native/weights'
import { isMissing, readExactly, readTextPieces, withFile } from './files'
import { invalidCheckpoint, quoted, shown } from './invalid'
import { isObject, parseJson } from './json'
import type { UnsupportedTensor } from './types'

/**
 * A third of the limit of the safetensors library: room for 250,000 tensors in one file, more than any has, and parsed
 * without blocking the event loop for much longer than 50 ms on two busy cores.
 */
const MAX_HEADER_BYTES = 32 * 1024 * 1024
/** A tensor with two dimensions takes eight values. */
const HEADER_LIMITS = { maxDepth: 3, maxValues: 2_000_000, mapAt: '' }
const MAX_NAME_LENGTH = 1000
const MAX_DIMENSIONS = 16

/** Bits per element, for every dtype of the format. */
const ELEMENT_BITS: Readonly<Record<string, number>> = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  F64: 64,
  I64: 64,
  U64: 64,
  C64: 64,
}
const READ_TYPES: readonly string[] = Object.keys(ELEMENT_BYTES)

export interface SafetensorsHeader {
  /** In file order. */
  readonly tensors: readonly TensorRef[]
  /** Tensors with dtypes billfish does not compute with. */
  readonly unsupported: readonly UnsupportedTensor[]
  /** Size of the whole file. */
  readonly bytes: number
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

/** Size in bytes, or undefined if it is not a whole number below 2^53. */
function sizeInBytes(shape: readonly number[], elementBits: number): number | undefined {
  if (shape.includes(0)) return 0
  let bits = elementBits
  for (const dimension of shape) {
    bits *= dimension
    if (!Number.isSafeInteger(bits)) return undefined
  }
  return bits % 8 === 0 ? bits / 8 : undefined
}

function parseTensor(name: string, entry: unknown, file: number, path: string, dataStart: number, dataBytes: number) {
  const where = `${path}: tensor ${quoted(name)}`
  if (name.length > MAX_NAME_LENGTH) {
    throw invalidCheckpoint(`${where} has a name of ${name.length} characters; at most ${MAX_NAME_LENGTH} are allowed`)
  }
  if (!isObject(entry)) throw invalidCheckpoint(`${where} is described by ${shown(entry)}, not an object`)
  const { dtype, shape, data_offsets: offsets } = entry
  const elementBits = typeof dtype === 'string' && Object.hasOwn(ELEMENT_BITS, dtype) ? ELEMENT_BITS[dtype] : undefined
  if (typeof dtype !== 'string' || elementBits === undefined) {
    throw invalidCheckpoint(`${where} has the unknown dtype ${shown(dtype)}`)
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw invalidCheckpoint(`${where} has the shape ${shown(shape)}, which is not a list of whole numbers`)
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw invalidCheckpoint(`${where} has the data_offsets ${shown(offsets)}, which are not two whole numbers`)
  }
  if (shape.length > MAX_DIMENSIONS) {
    throw invalidCheckpoint(`${where} has ${shape.length} dimensions; at most ${MAX_DIMENSIONS} are allowed`)
  }
  const [begin, end] = offsets as [number, number]
  if (begin > end || end > dataBytes) {
    throw invalidCheckpoint(
      `${where} claims the bytes ${begin} to ${end} of ${dataBytes} bytes of data; the file is truncated or damaged; download it again`,
    )
  }
  const bytes = sizeInBytes(shape, elementBits)
  if (bytes !== end - begin) {
    throw invalidCheckpoint(
      `${where} of type ${dtype} and shape [${shape.join(', ')}] takes ${bytes ?? 'more than 2^53'} bytes, ` +
        `but its data_offsets [${begin}, ${end}] hold ${end - begin}`,
    )
  }
  return { name, file, dtype, shape: shape as number[], offset: dataStart + begin, bytes }
}

/** Tensors must cover the data from its first to its last byte, without overlap or gaps. */
async function checkCoverage(
  tensors: readonly UnsupportedTensor[],
  path: string,
  dataStart: number,
  fileBytes: number,
): Promise<void> {
  let expected = dataStart
  let previous: string | undefined
  await forEachInSlices(tensors, ({ name, offset, bytes }) => {
    if (offset !== expected) {
      const fault =
        offset < expected ? `overlaps ${quoted(previous ?? '')}` : `leaves ${offset - expected} bytes unused before it`
      throw invalidCheckpoint(
        `${path}: tensor ${quoted(name)} begins at byte ${offset}, but the next free byte is ${expected}: it ${fault}`,
      )
    }
    expected = offset + bytes
    previous = name
  })
  if (expected !== fileBytes) {
    throw invalidCheckpoint(`${path}: the tensors end at byte ${expected}, but the file has ${fileBytes} bytes`)
  }
}

function checkMetadata(metadata: unknown, path: string): void {
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === 'string')) {
    throw invalidCheckpoint(`${path}: __metadata__ is ${shown(metadata)}, not an object of strings`)
  }
}

/**
 * Parses the JSON of a header.
 *
 * @param file file index for the TensorRefs
 * @param headerBytes length of the JSON in bytes
 * @param fileBytes size of the whole file
 * @throws BillfishError INVALID_CHECKPOINT
 */
async function parseHeader(
  text: readonly string[],
  file: number,
  path: string,
  headerBytes: number,
  fileBytes: number,
): Promise<SafetensorsHeader> {
  const header = await parseJson(text, `${path}: the safetensors header`, HEADER_LIMITS)
  if (!(header instanceof Map)) {
    throw invalidCheckpoint(`${path}: the safetensors header is ${shown(header)}, not an object`)
  }
  const entries = header as Map<string, unknown>
  const dataStart = 8 + headerBytes
  const all: UnsupportedTensor[] = []
  await forEachInSlices(entries, ([name, entry]) => {
    if (name === '__metadata__') checkMetadata(entry, path)
    else all.push(parseTensor(name, entry, file, path, dataStart, fileBytes - dataStart))
  })
  const ordered = await sortInSlices(all, (a, b) => a.offset - b.offset || a.bytes - b.bytes)
  await checkCoverage(ordered, path, dataStart, fileBytes)
  const tensors: TensorRef[] = []
  const unsupported: UnsupportedTensor[] = []
  await forEachInSlices(ordered, (tensor) => {
    if (isRead(tensor)) tensors.push(tensor)
    else unsupported.push(tensor)
  })
  return { tensors, unsupported, bytes: fileBytes }
}

function isRead(tensor: UnsupportedTensor): tensor is TensorRef {
  return READ_TYPES.includes(tensor.dtype)
}

/**
 * Reads and validates the header of one safetensors file.
 *
 * @param file file index for the TensorRefs
 * @throws BillfishError INVALID_CHECKPOINT; the reason of the signal if it aborts
 */
export async function readSafetensorsHeader(
  path: string,
  file: number,
  signal: AbortSignal | undefined,
): Promise<SafetensorsHeader> {
  signal?.throwIfAborted()
  try {
    return await withFile(
      path,
      async (handle, fileBytes) => {
        if (fileBytes < 10) {
          throw invalidCheckpoint(`${path} has ${fileBytes} bytes, too few for a safetensors file; download it again`)
        }
        const prefix = await readExactly(handle, 0, 8, path)
        const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true)
        const largest = Math.min(MAX_HEADER_BYTES, fileBytes - 8)
        if (headerBytes < 2n || headerBytes > BigInt(largest)) {
          throw invalidCheckpoint(
            `${path} claims a header of ${headerBytes} bytes, but it must have 2 to ${largest} in a file of ` +
              `${fileBytes} bytes: it is truncated or not a safetensors file; download it again`,
          )
        }
        signal?.throwIfAborted()
        const text = await readTextPieces(handle, 8, Number(headerBytes), `${path}: the safetensors header`)
        return await parseHeader(text, file, path, Number(headerBytes), fileBytes)
      },
      signal,
    )
  } catch (error) {
    if (isMissing(error)) throw invalidCheckpoint(`${path} does not exist; download the missing file`, error)
    throw error
  }
}
