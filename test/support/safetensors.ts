import { readFileSync } from 'node:fs'

export interface StoredTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Buffer
}

/** All tensors of a small safetensors file. */
export function readSafetensors(path: string): Map<string, StoredTensor> {
  const file = readFileSync(path)
  const dataStart = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, dataStart)) as Record<string, never>
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, { dtype, shape, data_offsets }]: [string, Record<string, never>]) => {
        const [begin, end] = data_offsets as unknown as [number, number]
        return [
          name,
          { dtype, shape, data: file.subarray(dataStart + begin, dataStart + end) } as unknown as StoredTensor,
        ]
      }),
  )
}

/** The bytes of a safetensors file. */
export function safetensorsOf(
  tensors: Readonly<Record<string, StoredTensor>>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Buffer {
  let end = 0
  const entries = Object.entries(tensors).map(([name, { dtype, shape, data }]) => {
    const begin = end
    end += data.length
    return [name, { dtype, shape, data_offsets: [begin, end] }]
  })
  const header = Buffer.from(JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, ...Object.values(tensors).map(({ data }) => data)])
}
