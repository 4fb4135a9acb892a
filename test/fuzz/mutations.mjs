/**
 * Damage to files: to the bytes of any file, and to JSON as a tree, in which objects are lists of pairs and leaves are raw
 * text, so that repeated keys, numbers of any size and texts that are no JSON can be written too.
 */

const NUMBERS = ['0', '-0', '-1', '1', '2', '3', '8', '1.5', '1e3', '1e400', '-1e400', '4294967296', '9007199254740991']
const HUGE_NUMBERS = [
  '9007199254740993',
  '18446744073709551615',
  '18446744073709551616',
  '9'.repeat(400),
  '1e-400',
  '0x10',
]
const VALUES = ['null', 'true', 'false', '[]', '{}', '""', '"x"', '[0]', '[0,0,0]', '{"a":1}', 'NaN', '-', 'undefined']
const STRINGS = [
  ...['F16', 'F32', 'BF16', 'I32', 'I64', 'F64', 'U8', 'BOOL', 'F8_E4M3', 'F4', 'f16', 'constructor', '__proto__', ''],
  ...['../model.safetensors', '/etc/passwd', 'model.safetensors', 'a\0b', '..', '.', '\ud800', 'x'.repeat(5000)],
  ...[
    'gptq',
    'awq',
    'gptq_v2',
    'compressed-tensors',
    'marlin',
    'pack-quantized',
    'group',
    'channel',
    'gemm',
    're:(a+)+$',
    'nvfp4-pack-quantized',
    'mxfp4-pack-quantized',
    'modelopt',
    'NVFP4',
    'MIXED_PRECISION',
    '*a*a*a*a*b',
    'F8_E8M0',
  ],
  ...['model.norm.weight', 'model.layers.0.self_attn.q_proj.qweight', 'model.layers.0.mlp.down_proj.scales'],
]

/** A JSON value as a tree. */
export function treeOf(value) {
  if (Array.isArray(value)) return { array: value.map(treeOf) }
  if (typeof value === 'object' && value !== null) {
    return { object: Object.entries(value).map(([key, member]) => [key, treeOf(member)]) }
  }
  return { raw: JSON.stringify(value) }
}

export function textOf(tree) {
  if (tree.array !== undefined) return `[${tree.array.map(textOf).join(',')}]`
  if (tree.object !== undefined) {
    return `{${tree.object.map(([key, member]) => `${JSON.stringify(key)}:${textOf(member)}`).join(',')}}`
  }
  return tree.raw
}

/** Every place in the tree where a value stands: how to get and set it, and the container that it stands in. */
function placesOf(tree) {
  const places = []
  const visit = (container) => {
    const items = container.array ?? container.object ?? []
    for (let i = 0; i < items.length; i++) {
      const inObject = container.object !== undefined
      places.push({
        container,
        index: i,
        get: () => (inObject ? items[i]?.[1] : items[i]) ?? { raw: 'null' },
        set: (value) => {
          if (inObject && items[i] !== undefined) items[i][1] = value
          else items[i] = value
        },
      })
      visit(inObject ? items[i][1] : items[i])
    }
  }
  visit(tree)
  return places
}

const OPERATIONS = {
  replaceByNumber: (place, random) => place.set({ raw: random.pick(random.chance(0.5) ? NUMBERS : HUGE_NUMBERS) }),
  replaceByValue: (place, random) => place.set({ raw: random.pick(VALUES) }),
  replaceByString: (place, random) => place.set({ raw: JSON.stringify(random.pick(STRINGS)) }),
  changeNumber: (place, random) => {
    const number = Number(place.get().raw)
    const changed = [
      number + 1,
      number - 1,
      -number,
      number * 2,
      number / 2,
      number + 4,
      number * 2 ** 32,
      number + 0.5,
    ]
    place.set({ raw: String(random.pick(Number.isFinite(number) ? changed : [0, 1])) })
  },
  remove: ({ container, index }) => (container.array ?? container.object).splice(index, 1),
  // A thousand of something large, or of something in which there are a thousand already, would fill the fuzzer's memory.
  repeat: (place, random, _places, isFirst) => {
    const items = place.container.array ?? place.container.object
    const many = isFirst && textOf(place.get()).length <= 1024 ? 1000 : 2
    items.push(...Array(random.pick([1, 1, 1, 2, many])).fill(items[place.index] ?? { raw: '0' }))
  },
  swap: (place, random, places) => {
    const other = random.pick(places)
    const value = place.get()
    // A value must not become a member of itself.
    if (textOf(value).includes(textOf(other.get())) || textOf(other.get()).includes(textOf(value))) return
    place.set(other.get())
    other.set(value)
  },
  rename: ({ container, index }, random, places) => {
    if (container.object === undefined) return
    const keys = places.flatMap((place) => place.container.object?.map(([key]) => key) ?? [])
    const key = random.chance(0.7) ? random.pick(keys) : random.pick(STRINGS)
    container.object[index] = [key ?? '', container.object[index]?.[1] ?? { raw: '0' }]
  },
  nest: (place, random) => {
    const depth = random.pick([1, 2, 3, 40, 5000])
    const [open, close] = random.pick([
      ['[', ']'],
      ['{"a":', '}'],
    ])
    place.set({ raw: open.repeat(depth) + textOf(place.get()) + close.repeat(random.chance(0.8) ? depth : depth - 1) })
  },
}

/** Damages a JSON text that is whole; returns the new text and what was done to it. */
export function mutateJson(text, random) {
  const tree = treeOf(JSON.parse(text))
  const done = []
  for (let count = random.pick([1, 1, 1, 2, 3]); count > 0; count--) {
    const places = placesOf(tree)
    if (places.length === 0) break
    const name = random.pick(Object.keys(OPERATIONS))
    const place = random.pick(places)
    done.push(`${name} at ${textOf(place.get()).slice(0, 60)}`)
    OPERATIONS[name](place, random, places, done.length === 1)
  }
  return { text: textOf(tree), done }
}

/** Damages bytes; `focus` is how many of the first bytes are the interesting ones. */
export function mutateBytes(bytes, focus, random) {
  const at = () => random.below(Math.max(1, random.chance(0.9) ? Math.min(focus, bytes.length) : bytes.length))
  const kind = random.pick(['flip', 'flip', 'flip', 'cut', 'extend', 'overwrite', 'insert', 'remove'])
  switch (kind) {
    case 'flip': {
      const copy = Buffer.from(bytes)
      const flips = random.pick([1, 1, 2, 8, 64])
      for (let i = 0; i < flips && copy.length > 0; i++) copy[at()] ^= 1 << random.below(8)
      return { bytes: copy, done: [`flip ${flips} bits`] }
    }
    case 'cut': {
      const length = random.chance(0.5) ? at() : random.below(bytes.length + 1)
      return { bytes: bytes.subarray(0, length), done: [`cut to ${length} of ${bytes.length} bytes`] }
    }
    case 'extend': {
      const more = random.pick([1, 2, 8, 4096])
      return { bytes: Buffer.concat([bytes, Buffer.alloc(more, random.below(256))]), done: [`${more} bytes more`] }
    }
    case 'overwrite': {
      const copy = Buffer.from(bytes)
      const start = at()
      const end = Math.min(copy.length, start + random.pick([1, 2, 8, 100]))
      copy.fill(random.pick([0, 0x20, 0x22, 0x5b, 0x7b, 0x7d, 0x80, 0xff]), Math.min(start, end), end)
      return { bytes: copy, done: [`overwrite at ${start}`] }
    }
    default: {
      const start = at()
      const length = random.pick([1, 4, 16, 1000])
      const middle = kind === 'insert' ? Buffer.from(Array.from({ length }, () => random.below(256))) : Buffer.alloc(0)
      const rest = bytes.subarray(kind === 'insert' ? start : start + length)
      return { bytes: Buffer.concat([bytes.subarray(0, start), middle, rest]), done: [`${kind} ${length} at ${start}`] }
    }
  }
}

/** Weights that are no numbers, groups that do not exist, and whatever else 16 bits can say, in many places. */
function mutateData(bytes, dataStart, random) {
  const copy = Buffer.from(bytes)
  const pattern = random.pick([0x0000, 0x7c00, 0x7e00, 0x7f80, 0xffff, 0x8000, 0x0001])
  const places = random.pick([1, 10, 1000])
  for (let i = 0; i < places; i++) copy.writeUInt16LE(pattern, dataStart + random.below(copy.length - dataStart - 1))
  return { bytes: copy, done: [`0x${pattern.toString(16)} in ${places} places of the data`] }
}

/** Damages a safetensors file: its header as JSON, its length field, its data, or any of its bytes. */
export function mutateSafetensors(bytes, random) {
  const headerBytes = Number(bytes.readBigUInt64LE(0))
  if (random.chance(0.1)) return mutateData(bytes, 8 + headerBytes, random)
  if (random.chance(0.25)) return mutateBytes(bytes, 8 + headerBytes, random)
  const data = bytes.subarray(8 + headerBytes)
  const { text, done } = mutateJson(bytes.toString('utf8', 8, 8 + headerBytes), random)
  const header = Buffer.from(text)
  const prefix = Buffer.alloc(8)
  let length = BigInt(header.length)
  if (random.chance(0.1)) {
    length = random.pick([
      0n,
      1n,
      length - 1n,
      length + 1n,
      length + 8n,
      2n ** 32n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 1n,
    ])
    done.push(`header length ${length} for ${header.length}`)
  }
  prefix.writeBigUInt64LE(length)
  return { bytes: Buffer.concat([prefix, header, data]), done }
}
