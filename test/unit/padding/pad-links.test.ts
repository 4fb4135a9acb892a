/** Links in a checkpoint: what a padded copy takes from where they lead, and what it leaves alone. */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { beforeEach, expect, it } from 'vitest'
import { loadModel, padCheckpoint } from '../../../src/index'
import { scratchDirectory } from '../../support/directories'
import { modelDirectory } from '../../support/fixtures'
import { billfish } from '../../support/programs'

const options = { parallelSizes: [2], verify: false }
const scratch = scratchDirectory()
let source = ''
let output = ''
let count = 0
beforeEach(() => {
  source = join(scratch, `model-${count}`)
  output = join(scratch, `padded-${count++}`)
  cpSync(modelDirectory('qwen2-bf16'), source, { recursive: true })
})

const outside = (name: string, text = 'a secret') => {
  const path = join(scratch, `outside-${count}-${name}`)
  writeFileSync(path, text)
  return path
}

it('skips links that lead out of the checkpoint, and reports them', async () => {
  symlinkSync(outside('key'), join(source, 'id_rsa'))
  symlinkSync('/etc/passwd', join(source, 'vocab.txt'))
  mkdirSync(join(source, 'sub'))
  symlinkSync(`../../${basename(outside('other'))}`, join(source, 'sub', 'other.txt'))
  symlinkSync('nowhere', join(source, 'dangling'))
  symlinkSync('loop', join(source, 'loop'))
  symlinkSync(scratch, join(source, 'everything'))
  const { links, written } = await padCheckpoint(source, output, options)
  expect(written).toBe(true)
  expect(links).toEqual(['dangling', 'everything', 'id_rsa', 'loop', 'sub/other.txt', 'vocab.txt'])
  for (const path of links) expect(existsSync(join(output, path))).toBe(false)
})

it('copies the target of a link within the checkpoint', async () => {
  writeFileSync(join(source, 'chat_template.v2.jinja'), 'a template')
  symlinkSync('chat_template.v2.jinja', join(source, 'chat_template.jinja'))
  expect((await padCheckpoint(source, output, options)).links).toEqual([])
  expect(readFileSync(join(output, 'chat_template.jinja'), 'utf8')).toBe('a template')
})

it('enters each directory once, whatever the links', async () => {
  mkdirSync(join(source, 'a', 'b'), { recursive: true })
  writeFileSync(join(source, 'a', 'b', 'notes.txt'), 'notes')
  for (const directory of ['', 'a', 'a/b']) {
    symlinkSync(source, join(source, directory, 'up'))
    symlinkSync('.', join(source, directory, 'here'))
  }
  const { links } = await padCheckpoint(source, output, options)
  expect(links).toHaveLength(6)
  expect(readdirSync(join(output, 'a'), { recursive: true }).sort()).toEqual(['b', 'b/notes.txt'])
})

it.each(['config.json', 'model-00002-of-00003.safetensors', 'model.safetensors.index.json'])(
  'refuses a %s from elsewhere',
  async (name) => {
    const elsewhere = join(scratch, `${count}-${name}`)
    renameSync(join(source, name), elsewhere)
    symlinkSync(elsewhere, join(source, name))
    await expect(padCheckpoint(source, output, options)).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(/is a link to .*, outside the checkpoint; .* Put the file itself there/),
    })
    expect(existsSync(`${output}.partial`)).toBe(false)
  },
)

it('refuses a quantization config outside the checkpoint, without which the copy would be a different model', async () => {
  const gptq = join(scratch, `gptq-${count}`)
  cpSync(modelDirectory('qwen2-gptq-int4-g128'), gptq, { recursive: true })
  const elsewhere = join(scratch, `${count}-quantize_config.json`)
  renameSync(join(gptq, 'quantize_config.json'), elsewhere)
  symlinkSync(elsewhere, join(gptq, 'quantize_config.json'))
  await expect(padCheckpoint(gptq, output, options)).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT' })
})

it("pads a snapshot of the Hub's cache, whose files are links to its blobs", async () => {
  const repository = join(scratch, `models--org--name-${count}`)
  const [snapshot, blobs] = [join(repository, 'snapshots', 'abc'), join(repository, 'blobs')]
  mkdirSync(snapshot, { recursive: true })
  mkdirSync(blobs)
  for (const name of readdirSync(source)) {
    renameSync(join(source, name), join(blobs, `hash-${name}`))
    symlinkSync(`../../blobs/hash-${name}`, join(snapshot, name))
  }
  symlinkSync(outside('token'), join(snapshot, 'token'))
  const { links, written } = await padCheckpoint(snapshot, output, options)
  expect({ links, written }).toEqual({ links: ['token'], written: true })
  const copied = readdirSync(output, { withFileTypes: true })
  expect(copied.every((entry) => entry.isFile())).toBe(true)
  expect(copied.map(({ name }) => name)).toContain('config.transformers5.json')
})

it('pads a checkpoint that is itself reached through a link', async () => {
  symlinkSync(source, join(scratch, `link-${count}`))
  const { links, written } = await padCheckpoint(join(scratch, `link-${count}`), output, options)
  expect({ links, written }).toEqual({ links: [], written: true })
})

it('names the links on the command line', async () => {
  symlinkSync('/etc/passwd', join(source, 'vocab.txt'))
  const { stdout } = await billfish(['pad', source, output, '--multiple', '2', '--no-verify'])
  expect(stdout).toMatch(/Not copied +links that lead elsewhere: vocab\.txt\n/)
})

it.each<[string, (path: string) => void]>([
  ['a file', (path) => writeFileSync(path, 'notes')],
  ['a link to nothing', (path) => symlinkSync('nowhere', path)],
  ['a link to an empty directory', (path) => symlinkSync(mkdtempSync(join(scratch, 'empty-')), path)],
  ['a link to the checkpoint', (path) => symlinkSync(source, path)],
])('does not accept %s as its workspace', async (_, make) => {
  make(`${output}.partial`)
  const before = readdirSync(source)
  await expect(padCheckpoint(source, output, options)).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/\.partial is needed for unfinished files, but is no directory; remove it/),
  })
  expect(readdirSync(source)).toEqual(before)
})

it('writes its state neither through a link nor into a pipe, and no shard through a link', async () => {
  const victim = outside('victim', '{"fingerprint":"x"}')
  const partial = `${output}.partial`
  mkdirSync(join(partial, 'checkpoint'), { recursive: true })
  symlinkSync(victim, join(partial, 'state.json'))
  symlinkSync(victim, join(partial, 'checkpoint', 'model-00001-of-00003.safetensors.unfinished'))
  expect((await padCheckpoint(source, output, options)).written).toBe(true)
  expect(readFileSync(victim, 'utf8')).toBe('{"fingerprint":"x"}')

  const piped = `${output}-2`
  mkdirSync(`${piped}.partial`)
  execFileSync('mkfifo', [join(`${piped}.partial`, 'state.json')])
  expect((await padCheckpoint(source, piped, options)).written).toBe(true)
})

it('opens no pipe in an unfinished copy', async () => {
  const partial = join(scratch, `pipe-${count}.partial`)
  mkdirSync(partial)
  execFileSync('mkfifo', [join(partial, 'state.json')])
  await expect(loadModel(partial)).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT' })
})

it('refuses an output that cannot be created or does not fit, before it starts', async () => {
  if (process.platform === 'linux') {
    await expect(padCheckpoint(source, '/proc/out', options)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('/proc/out.partial cannot be written'),
    })
  }
  writeFileSync(join(source, 'other.dat'), '')
  truncateSync(join(source, 'other.dat'), 2 ** 43) // a hole, which takes no room
  await expect(padCheckpoint(source, output, options)).rejects.toMatchObject({
    code: 'OUT_OF_MEMORY',
    message: expect.stringMatching(/bytes are to be written, but on the disk of .* are free/),
  })
})

it('skips a file whose name is not UTF-8, and reports it', async () => {
  const name = Buffer.concat([Buffer.from(`${source}/bad`), Buffer.from([0xff]), Buffer.from('.txt')])
  try {
    writeFileSync(name, 'text')
  } catch {
    return // a file system that has no such names
  }
  const { leftOut, written } = await padCheckpoint(source, output, options)
  expect({ leftOut, written }).toEqual({ leftOut: ['bad\ufffd.txt', 'golden.safetensors'], written: true })
})
