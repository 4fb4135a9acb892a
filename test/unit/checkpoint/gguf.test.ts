import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { scratchDirectory } from '../../support/directories'

// The benchmarks are plain ES modules, so that they run without a build; a type check of CommonJS sees them as `any`.
const benchModule = (path: string) => import(join(__dirname, '../../../bench', path))

const shape = {
  architecture: 'qwen2',
  format: 'int4',
  hidden: 256,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  intermediate: 384,
  vocab: 300,
  maxPositions: 128,
}

interface GgufTensor {
  extents: number[]
  type: number
  offset: number
}

/** Reads a GGUF file by the format's description, on its own feet: nothing here is shared with the writer. */
function readGguf(file: Buffer) {
  let at = 0
  /** Moves on by `bytes`; returns where it was. */
  const step = (bytes: number) => {
    at += bytes
    return at - bytes
  }
  const u32 = () => file.readUInt32LE(step(4))
  const u64 = () => Number(file.readBigUInt64LE(step(8)))
  const string = () => {
    const length = u64()
    const start = step(length)
    return file.toString('utf8', start, start + length)
  }
  const value = (type: number): unknown => {
    switch (type) {
      case 4:
        return u32()
      case 5:
        return file.readInt32LE(step(4))
      case 6:
        return file.readFloatLE(step(4))
      case 7:
        return file.readUInt8(step(1)) !== 0
      case 8:
        return string()
      case 9: {
        const element = u32()
        const count = u64()
        return Array.from({ length: count }, () => value(element))
      }
      default:
        throw new Error(`metadata type ${type} at ${at}`)
    }
  }
  const magic = file.toString('latin1', 0, 4)
  at = 4
  const version = u32()
  const tensorCount = u64()
  const metadataCount = u64()
  const metadata = new Map(Array.from({ length: metadataCount }, () => [string(), value(u32())] as const))
  const tensors = new Map<string, GgufTensor>()
  for (let i = 0; i < tensorCount; i++) {
    const name = string()
    const extents = Array.from({ length: u32() }, u64)
    tensors.set(name, { extents, type: u32(), offset: u64() })
  }
  const headerBytes = Math.ceil(at / 32) * 32
  return { magic, version, metadata, tensors, headerBytes, data: file.subarray(headerBytes) }
}

function readSafetensors(file: Buffer) {
  const length = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  >
  return (name: string) => {
    const entry = header[name]
    if (!entry) throw new Error(`no ${name}`)
    return file.subarray(8 + length + entry.data_offsets[0], 8 + length + entry.data_offsets[1])
  }
}

describe('the random model of the benchmarks', () => {
  const folder = scratchDirectory()
  let gguf: ReturnType<typeof readGguf>
  let checkpoint: ReturnType<typeof readSafetensors>
  let bytes: number

  let halfToNumber: (bits: number) => number
  let checkShape: (candidate: typeof shape) => void

  beforeAll(async () => {
    const { writeModelGguf } = await benchModule('peers/random-gguf.mjs')
    const { writeCheckpoint } = await benchModule('lib/random-checkpoint.mjs')
    ;({ checkShape } = await benchModule('lib/shapes.mjs'))
    ;({ halfToNumber } = await benchModule('lib/random-numbers.mjs'))
    bytes = writeModelGguf(join(folder, 'model.gguf'), shape)
    gguf = readGguf(readFileSync(join(folder, 'model.gguf')))
    writeCheckpoint(join(folder, 'gptq'), shape)
    checkpoint = readSafetensors(readFileSync(join(folder, 'gptq', 'model.safetensors')))
  })

  it('writes a GGUF header that reads back', () => {
    expect(gguf.magic).toBe('GGUF')
    expect(gguf.version).toBe(3)
    expect(gguf.metadata.get('general.architecture')).toBe('qwen2')
    expect(gguf.metadata.get('qwen2.embedding_length')).toBe(shape.hidden)
    expect(gguf.metadata.get('qwen2.attention.head_count_kv')).toBe(shape.kvHeads)
    expect(gguf.metadata.get('qwen2.attention.layer_norm_rms_epsilon')).toBeCloseTo(1e-6, 12)
    const tokens = gguf.metadata.get('tokenizer.ggml.tokens') as string[]
    expect(tokens).toHaveLength(shape.vocab)
    expect(new Set(tokens).size).toBe(shape.vocab)
    expect(gguf.metadata.get('tokenizer.ggml.token_type')).toHaveLength(shape.vocab)
    expect(gguf.metadata.get('tokenizer.ggml.add_bos_token')).toBe(false)
  })

  it('lists every tensor with its extents, type and an aligned place of its own', () => {
    expect(gguf.tensors.size).toBe(3 + shape.layers * 12)
    expect(gguf.tensors.get('blk.1.attn_k.weight')).toMatchObject({ extents: [256, 128], type: 2 })
    expect(gguf.tensors.get('blk.1.ffn_down.weight')).toMatchObject({ extents: [384, 256], type: 2 })
    expect(gguf.tensors.get('blk.0.attn_q.bias')).toMatchObject({ extents: [256], type: 0 })
    expect(gguf.tensors.get('output.weight')).toMatchObject({ extents: [256, 300], type: 1 })
    const bytesOf = ({ extents, type }: GgufTensor) =>
      extents.reduce((product, extent) => product * extent) * ([4, 2, 18 / 32][type] ?? Number.NaN)
    let end = 0
    for (const tensor of gguf.tensors.values()) {
      expect(tensor.offset).toBe(end)
      end = Math.ceil((tensor.offset + bytesOf(tensor)) / 32) * 32
    }
    expect(gguf.data.length).toBe(end)
    expect(bytes).toBe(gguf.headerBytes + end)
  })

  it.each([
    ['blk.1.ffn_down.weight', 'model.layers.1.mlp.down_proj', 384, 256],
    ['blk.0.attn_k.weight', 'model.layers.0.self_attn.k_proj', 256, 128],
  ])('holds in %s the numbers of %s', (ggufName, name, inputs, outputs) => {
    const blocks = gguf.data.subarray(gguf.tensors.get(ggufName)?.offset)
    const codes = checkpoint(`${name}.qweight`)
    const zeros = checkpoint(`${name}.qzeros`)
    const scales = checkpoint(`${name}.scales`)
    const values = new Set<number>()
    for (let output = 0; output < outputs; output++) {
      for (let input = 0; input < inputs; input++) {
        const block = (output * inputs + input) >> 5
        const within = input & 31
        const byte = blocks.readUInt8(block * 18 + 2 + (within & 15))
        const q4 = ((within < 16 ? byte & 15 : byte >> 4) - 8) * halfToNumber(blocks.readUInt16LE(block * 18))

        const group = input >> 7
        const word = codes.readUInt32LE(4 * ((input >> 3) * outputs + output))
        const zeroWord = zeros.readUInt32LE(4 * (group * (outputs / 8) + (output >> 3)))
        const zero = ((zeroWord >>> (4 * (output & 7))) & 15) + 1
        const gptq =
          (((word >>> (4 * (input & 7))) & 15) - zero) *
          halfToNumber(scales.readUInt16LE(2 * (group * outputs + output)))
        if (q4 !== gptq) throw new Error(`[${output}, ${input}]: ${q4} in the GGUF file, ${gptq} in the checkpoint`)
        values.add(((word >>> (4 * (input & 7))) & 15) - zero)
      }
    }
    expect([...values].sort((a, b) => a - b)).toEqual(Array.from({ length: 15 }, (_, i) => i - 7))
  })

  it('holds the same embedding, head and biases in both', () => {
    const at = (name: string, length: number) => {
      const offset = gguf.tensors.get(name)?.offset ?? Number.NaN
      return gguf.data.subarray(offset, offset + length)
    }
    const embedding = checkpoint('model.embed_tokens.weight')
    expect(at('token_embd.weight', embedding.length).equals(embedding)).toBe(true)
    const head = checkpoint('lm_head.weight')
    expect(at('output.weight', head.length).equals(head)).toBe(true)
    expect(head.equals(embedding)).toBe(false)
    const bias = checkpoint('model.layers.0.self_attn.q_proj.bias')
    const floats = at('blk.0.attn_q.bias', 4 * shape.hidden)
    for (let i = 0; i < shape.hidden; i++) {
      expect(floats.readFloatLE(4 * i)).toBe(halfToNumber(bias.readUInt16LE(2 * i)))
    }
  })

  it('refuses shapes that the formats cannot hold', () => {
    expect(() => checkShape({ ...shape, intermediate: 400 })).toThrow('intermediate = 400')
    expect(() => checkShape({ ...shape, vocab: 256 })).toThrow('vocab = 256')
    expect(() => checkShape({ ...shape, kvHeads: 3 })).toThrow('heads (4)')
    expect(() => checkShape({ ...shape, layers: 0 })).toThrow('layers')
  })
})
