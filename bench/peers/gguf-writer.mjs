/**
 * The GGUF container, version 3, written tensor by tensor.
 *
 *     "GGUF" | version u32 | tensor count u64 | metadata count u64
 *     metadata:  key string | value type u32 | value
 *     tensors:   name string | dimensions u32 | extents u64[] (fastest first) | type u32 | offset u64
 *     padding to the alignment | tensor data, each tensor padded to the alignment
 *
 * A string is a u64 length and its UTF-8 bytes; everything is little-endian; offsets count from the start of the data.
 */
import { closeSync, openSync } from 'node:fs'
import { writeAll } from '../lib/safetensors-writer.mjs'

export const ALIGNMENT = 32

/** How each tensor type stores its elements: type id, elements a block, bytes a block. */
export const TENSOR_TYPES = {
  F32: { id: 0, blockElements: 1, blockBytes: 4 },
  F16: { id: 1, blockElements: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockElements: 32, blockBytes: 18 },
  Q8_0: { id: 8, blockElements: 32, blockBytes: 34 },
  BF16: { id: 30, blockElements: 1, blockBytes: 2 },
}

const padded = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT

/** Bytes of a tensor `{ type, extents }`. */
export function tensorBytes({ name, type, extents }) {
  const { blockElements, blockBytes } = TENSOR_TYPES[type]
  if (extents[0] % blockElements !== 0) {
    throw new Error(`${name}: ${type} needs a first extent that is a multiple of ${blockElements}, not ${extents[0]}`)
  }
  return (extents.reduce((product, extent) => product * extent, 1) / blockElements) * blockBytes
}

function u32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function string(text) {
  const bytes = Buffer.from(text, 'utf8')
  return Buffer.concat([u64(bytes.length), bytes])
}

function i32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}

function f32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}

/** How metadata stores a scalar: type id, and its bytes. */
const SCALARS = {
  u32: { id: 4, bytes: u32 },
  i32: { id: 5, bytes: i32 },
  f32: { id: 6, bytes: f32 },
  bool: { id: 7, bytes: (value) => Buffer.from([value ? 1 : 0]) },
  string: { id: 8, bytes: string },
}
const ARRAY_ID = 9

function scalarOf(type) {
  if (!Object.hasOwn(SCALARS, type)) throw new Error(`no GGUF metadata type ${type}`)
  return SCALARS[type]
}

/** One metadata entry: `[key, type, value]`, where type is a scalar's name or, for an array, that name in brackets. */
function metadataEntry([key, type, value]) {
  const element = /^\[(\w+)\]$/.exec(type)?.[1]
  const { id, bytes } = scalarOf(element ?? type)
  if (element === undefined) return Buffer.concat([string(key), u32(id), bytes(value)])
  return Buffer.concat([string(key), u32(ARRAY_ID), u32(id), u64(value.length), ...value.map((item) => bytes(item))])
}

/**
 * Everything before the tensor data, padded.
 * @param {[string, string, unknown][]} metadata
 * @param {{ name: string, type: string, extents: number[] }[]} tensors
 */
export function ggufHeader(metadata, tensors) {
  const parts = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.length)]
  parts.push(...metadata.map(metadataEntry))
  let offset = 0
  for (const tensor of tensors) {
    parts.push(string(tensor.name), u32(tensor.extents.length), ...tensor.extents.map(u64))
    parts.push(u32(TENSOR_TYPES[tensor.type].id), u64(offset))
    offset += padded(tensorBytes(tensor))
  }
  const header = Buffer.concat(parts)
  return Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length)])
}

/**
 * Writes a file; each tensor's `data()` is called when its turn comes, so that one tensor at a time is in memory.
 * @param {string} path
 * @param {[string, string, unknown][]} metadata
 * @param {{ name: string, type: string, extents: number[], data: () => NodeJS.ArrayBufferView }[]} tensors
 * @returns {number} bytes written
 */
export function writeGguf(path, metadata, tensors) {
  const file = openSync(path, 'w')
  try {
    let written = writeAll(file, ggufHeader(metadata, tensors))
    for (const tensor of tensors) {
      const data = tensor.data()
      const bytes = tensorBytes(tensor)
      if (data.byteLength !== bytes) {
        throw new Error(`${tensor.name}: ${data.byteLength} bytes of data for a tensor of ${bytes} bytes`)
      }
      written += writeAll(file, data)
      written += writeAll(file, Buffer.alloc(padded(bytes) - bytes))
    }
    return written
  } finally {
    closeSync(file)
  }
}
