import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { emitCheckpointWarnings } from '../../../src/checkpoint/warnings'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { directoryOf } from '../../support/directories'
import { openingError } from '../../support/refusals'
import { safetensors, type TensorContents } from '../../support/tensors'

const NORM: TensorContents = { dtype: 'F16', shape: [8] }

describe('configs', () => {
  const model = { 'model.safetensors': safetensors({ a: NORM }) }

  it('are given as they are stored', async () => {
    const directory = directoryOf({
      'config.json': { torch_dtype: 'x' },
      'generation_config.json': { top_k: 20 },
      ...model,
    })
    const checkpoint = await openCheckpoint(directory)
    expect(checkpoint.config).toEqual({ torch_dtype: 'x' })
    expect(checkpoint.generationConfig).toEqual({ top_k: 20 })
    expect((await openCheckpoint(directoryOf({ 'config.json': {}, ...model }))).generationConfig).toEqual({})
  })

  it.each([
    ['no config.json', {}, 'has no config.json'],
    ['a list', { 'config.json': [] }, 'not an object'],
    ['no JSON', { 'config.json': 'hello' }, 'not valid JSON'],
    ['depth', { 'config.json': `{"a":${'['.repeat(1000)}${']'.repeat(1000)}}` }, 'more than 32 levels'],
    ['size', { 'config.json': `{"a":"${'x'.repeat(5_000_000)}"}` }, 'at most 4194304'],
    ['values', { 'config.json': `{"a":[${'0,'.repeat(220_000)}0]}` }, '200000 values'],
    ['a repeated key', { 'config.json': '{"hidden_size":1,"hidden_size":2}' }, '"hidden_size" twice'],
  ])('are refused: %s', async (_, files, part) => {
    expect((await openingError(directoryOf({ ...model, ...files }))).message).toContain(part)
  })

  it.each([
    ['a number', '7', 'holds 7, not an object'],
    ['null', 'null', 'holds null, not an object'],
    ['a list', '[{"top_k": 1}]', 'holds [{"top_k":1}], not an object'],
    ['a text', '"x"', 'not an object'],
    ['nothing', '', 'is empty'],
    ['cut off', '{"top_k": 1', 'is not valid JSON'],
    ['Python', "{'top_k': 1}", 'is not valid JSON'],
    ['a repeated key', '{"top_k":1,"top_k":2}', '"top_k" twice'],
    ['no UTF-8', Buffer.from('{"a":"é"}', 'latin1'), 'is not valid UTF-8'],
    ['too deep', `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`, 'more than 32 levels'],
    ['too long', `"${'x'.repeat(5_000_000)}"`, 'at most 4194304 are read'],
  ])('of generation that are no object are ignored, and said to be: %s', async (_, content, part) => {
    const checkpoint = await openCheckpoint(
      directoryOf({ ...model, 'config.json': {}, 'generation_config.json': content }),
    )
    expect(checkpoint.generationConfig).toEqual({})
    expect(checkpoint.generationConfigFault).toMatch(
      /^generation_config\.json is ignored: \/.*generation_config\.json /,
    )
    expect(checkpoint.generationConfigFault).toContain(part)
  })

  it('are refused if they are not files', async () => {
    const directory = directoryOf(model)
    mkdirSync(join(directory, 'config.json'))
    expect((await openingError(directory)).message).toContain('is a directory')
    rmSync(join(directory, 'config.json'), { recursive: true })
    symlinkSync('/dev/zero', join(directory, 'config.json'))
    expect((await openingError(directory)).message).toContain('not a regular file')
  })

  it('are read with the numbers that only Python writes', async () => {
    const text = '{"a": NaN, "b": [Infinity, -Infinity], "c": "NaN"}'
    const { config } = await openCheckpoint(directoryOf({ ...model, 'config.json': text }))
    expect(config).toEqual({ a: Number.NaN, b: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY], c: 'NaN' })
    for (const wrong of ['{"a": Nan}', '{"a": +Infinity}', '{"a": NaN1}', '{"a": -NaN}']) {
      expect((await openingError(directoryOf({ ...model, 'config.json': wrong }))).message).toContain('not valid JSON')
    }
  })

  it('may begin with a byte order mark', async () => {
    const { config } = await openCheckpoint(directoryOf({ ...model, 'config.json': '\ufeff{"a": 1}' }))
    expect(config).toEqual({ a: 1 })
  })

  it('are reported as empty or UTF-16', async () => {
    for (const text of ['', ' \n'])
      expect((await openingError(directoryOf({ ...model, 'config.json': text }))).message).toContain(
        'config.json is empty',
      )
    for (const mark of ['\ufeff', '']) {
      const text = Buffer.from(`${mark}{"a": 1}`, 'utf16le')
      for (const order of [text, Buffer.from(text).swap16()]) {
        const { message } = await openingError(directoryOf({ ...model, 'config.json': order }))
        expect(message).toContain('config.json is UTF-16; save it as UTF-8')
      }
    }
  })

  it('are refused with the name of a missing directory', async () => {
    expect((await openingError('/nowhere/at/all')).message).toContain('/nowhere/at/all')
    const file = join(directoryOf({ x: 'y' }), 'x')
    expect((await openingError(file)).code).toBe('INVALID_CHECKPOINT')
    writeFileSync(file, '')
    expect((await openingError(`${file}\0`)).code).toBe('INVALID_CHECKPOINT')
  })
})

describe('a quantization config that is broken', () => {
  const contents = ['[]', '7', '{"bits":', 'version https://git-lfs.github.com/spec/v1\nsize 4022680\n']
  it.each(['quantize_config.json', 'quant_config.json', 'quantization_config.json', 'hf_quant_config.json'])(
    'does not matter where config.json has one: %s',
    async (name) => {
      for (const content of contents) {
        const files = { [name]: content, 'model.safetensors': safetensors({ a: NORM }) }
        const config = { quantization_config: { quant_method: 'gptq', bits: 4 } }
        const { quantization, notices } = await openCheckpoint(directoryOf({ ...files, 'config.json': config }))
        expect(quantization).toMatchObject({ method: 'gptq', bits: 4 })
        expect(notices).toEqual([expect.stringMatching(new RegExp(`${name} .*; config\\.json takes precedence\\.$`))])
        expect((await openingError(directoryOf({ ...files, 'config.json': {} }))).message).toContain(name)
      }
    },
  )
})

describe('two quantization configs that contradict each other', () => {
  it('are reported once', async () => {
    const config = { quant_method: 'gptq', bits: 4, group_size: 128 }
    const directory = directoryOf({
      'config.json': { quantization_config: config },
      'quantize_config.json': { bits: 8, group_size: 128 },
      'model.safetensors': safetensors({ a: NORM }),
    })
    const warnings: Error[] = []
    const listen = (warning: Error) => warnings.push(warning)
    process.on('warning', listen)
    try {
      for (let i = 0; i < 2; i++) {
        const { quantization, notices } = await openCheckpoint(directory)
        expect(quantization).toMatchObject({ bits: 4 })
        emitCheckpointWarnings(notices)
      }
      await new Promise(setImmediate)
    } finally {
      process.off('warning', listen)
    }
    expect(warnings).toEqual([
      expect.objectContaining({
        code: 'BILLFISH_CHECKPOINT',
        message: expect.stringContaining('quantize_config.json says'),
      }),
    ])
  })
})
