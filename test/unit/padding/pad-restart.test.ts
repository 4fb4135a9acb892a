/** What an aborted, killed or failed run leaves behind, and how the next one goes on; what the verification sees. */
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it, test } from 'vitest'
import { FileLock } from '../../../src/checkpoint/file-lock'
import { BillfishError, loadModel, type PadOptions, padCheckpoint } from '../../../src/index'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { findGatedMlps } from '../../../src/padding/gated-mlp'
import { verifyPadding } from '../../../src/padding/verify'
import { scratchDirectory } from '../../support/directories'
import { modelDirectory } from '../../support/fixtures'
import { billfish } from '../../support/programs'
import { readSafetensors } from '../../support/tensors'

const model = modelDirectory('qwen2-bf16') // three shards
const options: PadOptions = { parallelSizes: [2, 4] }
const scratch = scratchDirectory()
let output = ''
/** Pads the model to `output`, as a program. */
let padProgram = ''
let count = 0
let clean: ReturnType<typeof contents>
beforeAll(async () => {
  await padCheckpoint(model, join(scratch, 'clean'), options)
  clean = contents(join(scratch, 'clean'))
})
beforeEach(() => {
  output = join(scratch, `out-${count++}`)
  padProgram = `require(${JSON.stringify(resolve(__dirname, '../../../dist/index.js'))})
      .padCheckpoint(${JSON.stringify(model)}, ${JSON.stringify(output)}, { parallelSizes: [2] })
      .catch(({ code, message }) => console.log(code + ': ' + message))`
})

const contents = (directory: string) =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => [name, readFileSync(join(directory, name)).toString('base64')])
const isShard = (name: string) => /^model.*\.safetensors$/.test(name)
const shardBytes = () =>
  readdirSync(join(scratch, 'clean'))
    .filter(isShard)
    .sort()
    .map((name) => statSync(join(scratch, 'clean', name)).size)

/** Holds the lock of a workspace for `output`. */
async function lockWorkspace(): Promise<{ lock: FileLock; path: string }> {
  mkdirSync(`${output}.partial`)
  const path = join(`${output}.partial`, 'lock')
  const lock = await FileLock.take(path)
  if (!(lock instanceof FileLock)) throw new Error('the lock is taken')
  return { lock, path }
}

/** Nothing has the output's name, and what there is cannot be opened. */
async function expectNoCheckpoint(): Promise<void> {
  expect(existsSync(output)).toBe(false)
  const unfinished = `${output}.partial`
  for (const directory of [unfinished, join(unfinished, 'checkpoint')]) {
    for (const open of [openCheckpoint, loadModel]) {
      await expect(open(directory)).rejects.toMatchObject({
        code: 'INVALID_CHECKPOINT',
        message: expect.stringMatching(/is an unfinished copy by billfish pad; run the same .*, then open .*out-\d+/),
      })
    }
  }
  expect(existsSync(join(unfinished, 'checkpoint', 'config.json'))).toBe(false)
}

async function expectGoesOn(reused: number): Promise<void> {
  const result = await padCheckpoint(model, output, options)
  expect(result).toMatchObject({ written: true, reusedFiles: reused })
  expect(contents(output)).toEqual(clean)
  expect(existsSync(`${output}.partial`)).toBe(false)
}

describe('a run that is aborted', () => {
  test('while it writes the third of three shards: the first is kept', async () => {
    const controller = new AbortController()
    const [first = 0, second = 0] = shardBytes()
    const run = padCheckpoint(model, output, {
      ...options,
      signal: controller.signal,
      onProgress: ({ done }) => done > first + second && controller.abort(),
    })
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
    await expectNoCheckpoint()
    await expectGoesOn(2)
  })

  test('while it verifies: all shards are kept, and verified again', async () => {
    const controller = new AbortController()
    const run = padCheckpoint(model, output, {
      ...options,
      signal: controller.signal,
      onProgress: ({ phase }) => phase === 'verifying' && controller.abort(),
    })
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
    await expectNoCheckpoint()
    await expectGoesOn(3)
  })

  test('before it begins', async () => {
    for (const reason of ['enough', null, new Error('enough')]) {
      const run = padCheckpoint(model, output, { ...options, signal: AbortSignal.abort(reason) })
      await expect(run).rejects.toBe(reason)
    }
    expect(existsSync(`${output}.partial`)).toBe(false)
  })

  test('whose onProgress throws', async () => {
    const run = padCheckpoint(model, output, {
      ...options,
      onProgress: () => {
        throw new Error('enough')
      },
    })
    await expect(run).rejects.toThrow('enough')
    await expectNoCheckpoint()
    await expectGoesOn(0)
  })
})

/** Runs the compiled billfish in a process of its own; `until` says when that kills itself. */
function killed(until: string) {
  const program = `require(${JSON.stringify(resolve(__dirname, '../../../dist/index.js'))}).padCheckpoint(
    ${JSON.stringify(model)}, ${JSON.stringify(output)}, { parallelSizes: [2, 4], onProgress({ phase, done, total }) {
      if (${until}) process.kill(process.pid, 'SIGKILL') } })`
  return spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' }).signal
}

describe('a run that is killed', () => {
  test('in the middle of the third shard', async () => {
    const [first = 0, second = 0] = shardBytes()
    expect(killed(`done > ${first + second}`)).toBe('SIGKILL')
    await expectNoCheckpoint()
    const left = readdirSync(join(`${output}.partial`, 'checkpoint'))
    expect(left.filter(isShard).length).toBeGreaterThanOrEqual(1)
    expect(left.filter((name) => name.endsWith('.unfinished')).length).toBeGreaterThanOrEqual(1)
    await expectGoesOn(left.filter(isShard).length)
  })

  test('while it verifies', async () => {
    expect(killed(`phase === 'verifying' && done === 2`)).toBe('SIGKILL')
    await expectNoCheckpoint()
    await expectGoesOn(3)
  })
})

describe('a run that is killed again and again', () => {
  // In thousandths of the bytes to write; each run goes on where the one before was killed.
  const moments = [0, 3, 170, 333, 334, 480, 666, 700, 870, 999]

  test('leaves no checkpoint behind, and ends with the same files', async () => {
    let reached = -1
    for (const moment of moments) {
      expect(killed(`phase === 'writing' && done * 1000 >= total * ${moment}`)).toBe('SIGKILL')
      await expectNoCheckpoint()
      const left = readdirSync(join(`${output}.partial`, 'checkpoint')).filter(isShard).length
      expect(left).toBeGreaterThanOrEqual(reached) // what was finished stays
      reached = left
    }
    await expectGoesOn(reached)
  })

  test('when the copy is complete, but not renamed yet', async () => {
    // config.json is there when the process ends between writing it and the rename.
    expect(killed(`phase === 'verifying' && done === total`)).toBe('SIGKILL')
    await expectNoCheckpoint()
    cpSync(join(model, 'config.json'), join(`${output}.partial`, 'checkpoint', 'config.json'))
    await expect(loadModel(join(`${output}.partial`, 'checkpoint'))).rejects.toThrow(/is an unfinished copy/)
    await expectGoesOn(3)
  })
})

describe('finished files are written again', () => {
  const stop = (more: PadOptions = {}, source = model) =>
    padCheckpoint(source, output, {
      ...options,
      ...more,
      onProgress: ({ phase }) => {
        if (phase === 'verifying') throw new Error('stop')
      },
    }).catch(() => {})

  test('for other options', async () => {
    await stop({ placement: 'interleaved' })
    await expectGoesOn(0)
  })

  test('for another source', async () => {
    const source = join(scratch, `source-${count}`)
    cpSync(model, source, { recursive: true })
    await stop({}, source)
    const file = join(source, 'model-00001-of-00003.safetensors')
    utimesSync(file, 0, 0)
    expect(await padCheckpoint(source, output, options)).toMatchObject({ written: true, reusedFiles: 0 })
  })

  test('where a file has another size', async () => {
    await stop()
    writeFileSync(join(`${output}.partial`, 'checkpoint', 'model-00002-of-00003.safetensors'), 'cut off')
    await expectGoesOn(2)
  })

  test("where the next run's verification finds it wrong", async () => {
    await stop()
    const file = join(`${output}.partial`, 'checkpoint', 'model-00002-of-00003.safetensors')
    corrupt(file, /mlp\.up_proj\.weight$/, 1000)
    await expect(padCheckpoint(model, output, options)).rejects.toMatchObject({ code: 'INTERNAL' })
    await expectNoCheckpoint()
    await expectGoesOn(0)
  })

  test("where the next run's verification finds a group that does not exist", async () => {
    const source = modelDirectory('qwen2-gptq-int4-g32-desc_act')
    await stop({}, source)
    const file = join(`${output}.partial`, 'checkpoint', 'model.safetensors')
    corrupt(file, /down_proj\.g_idx$/, 3)
    const failure = await padCheckpoint(source, output, options).catch((error) => error)
    expect(failure).toBeInstanceOf(BillfishError)
    expect(failure).toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(
        /down_proj\.g_idx' of .*model\.safetensors puts input 0 into group 167772\d\d; the layer has 16 groups/,
      ),
    })
    expect(await padCheckpoint(source, output, options)).toMatchObject({ written: true, reusedFiles: 0 })
  })
})

describe.runIf(process.platform === 'linux')('no file stays open', () => {
  const openFiles = () =>
    readdirSync('/proc/self/fd').flatMap((file) => {
      try {
        return [readlinkSync(join('/proc/self/fd', file))]
      } catch {
        return [] // the listing's own
      }
    })

  test('where a shard that was written cannot get its name, while the next one is there already', async () => {
    const run = padCheckpoint(model, output, {
      ...options,
      onProgress: ({ done }) => {
        const name = join(`${output}.partial`, 'checkpoint', 'model-00001-of-00003.safetensors')
        if (done === 0) mkdirSync(name)
      },
    })
    await expect(run).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    expect(openFiles().filter((path) => path.startsWith(output))).toEqual([])
  })

  test('where one of those to compare is missing', async () => {
    const checkpoint = await openCheckpoint(model)
    const { paddedSize } = await padCheckpoint(model, output, { ...options, verify: false })
    const files = readdirSync(output)
      .filter(isShard)
      .map((file) => join(output, file))
    const moving = { onLayer: (done: number) => done === 0 && renameSync(files[0] as string, join(output, 'moved')) }
    const verifying = verifyPadding(checkpoint, findGatedMlps(checkpoint), files, paddedSize, 'tail', moving)
    await expect(verifying).rejects.toThrow(/cannot be opened/)
    expect(openFiles().filter((path) => path.startsWith(output) || path.startsWith(model))).toEqual([])
  })
})

/** Changes a number of the first tensor of that name, in its last bit. */
function corrupt(file: string, name: RegExp, byte: number): void {
  const bytes = readFileSync(file)
  const [, tensor] = [...readSafetensors(file)].find(([other]) => name.test(other)) ?? []
  if (!tensor) throw new Error(`${file} has no ${name}`)
  const at = bytes.indexOf(tensor.data) + byte
  bytes[at] = (bytes[at] as number) ^ 1
  writeFileSync(file, bytes)
}

describe('the verification sees', () => {
  const cases = [
    ['qwen2-bf16', /gate_proj\.weight$/, 2 * 128 * 383, 'the last bit of a weight'],
    ['qwen2-bf16', /gate_proj\.weight$/, 2 * 128 * 400, 'a channel that should be zero, in gate'],
    ['qwen2-bf16', /up_proj\.weight$/, 2 * 128 * 511, 'a channel that should be zero, in up'],
    ['qwen2-bf16', /down_proj\.weight$/, 2 * 500, 'a column of down that should be zero'],
    ['qwen2-gptq-int4-asym', /down_proj\.qweight$/, 999, 'a code'],
    ['qwen2-gptq-int4-asym', /down_proj\.qzeros$/, 5, 'a zero point'],
    ['qwen2-gptq-int4-g128', /down_proj\.qzeros$/, 5, 'a zero point that billfish does not read'],
    ['qwen2-gptq-int4-g128', /up_proj\.qzeros$/, 4 * 60, 'one of a padded channel'],
    ['qwen2-gptq-int4-g32-desc_act', /down_proj\.g_idx$/, 400, 'the group of an input'],
    [
      'qwen2-gptq-int4-g32-desc_act',
      /down_proj\.scales$/,
      12 * 128 * 2 + 1,
      'the scale of an added group, although its codes are at the zero point',
    ],
    ['qwen3-awq-int4-g64', /gate_proj\.qweight$/, 12345, 'a code'],
    ['qwen2-ct-w8a16', /down_proj\.weight_packed$/, 380, 'a code'],
    ['qwen2-ct-w4a16', /up_proj\.weight_scale$/, 17, 'a scale'],
    ['qwen1-gptq-int8', /mlp\.w2\.qweight$/, 77, 'a code'],
  ] as const
  test.each(cases)('%s, %s at %i: %s', async (name, tensor, byte, what) => {
    const { paddedSize } = await padCheckpoint(modelDirectory(name), output, { ...options, verify: false })
    const checkpoint = await openCheckpoint(modelDirectory(name))
    const files = readdirSync(output)
      .filter(isShard)
      .sort()
      .map((file) => join(output, file))
    const verify = () => verifyPadding(checkpoint, findGatedMlps(checkpoint), files, paddedSize, 'tail', {})
    await expect(verify()).resolves.toMatchObject({ maxDifference: 0 })
    const file = files.find((path) => [...readSafetensors(path).keys()].some((key) => tensor.test(key))) as string
    corrupt(file, tensor, byte)
    const found =
      what === 'the group of an input'
        ? /g_idx' of .* puts 33 inputs into group 8 where group size 32/
        : /^The padded MLP of .*\.0 differs .* but must be the same: Tensor '.*' of .* has .* for output \d+.*, which must be/
    await expect(verify()).rejects.toThrow(found)
  })
})

describe('the workspace', () => {
  it('is refused if it belongs to something else', async () => {
    mkdirSync(`${output}.partial`)
    writeFileSync(join(`${output}.partial`, 'thesis.txt'), 'years of work')
    await expect(padCheckpoint(model, output, options)).rejects.toThrow(
      /holds something else; remove it, or name another/,
    )
    expect(readdirSync(`${output}.partial`)).toEqual(['thesis.txt'])
  })

  it('is locked while a process uses it', async () => {
    await padCheckpoint(model, output, {
      ...options,
      onProgress: ({ phase, done }) => {
        if (phase !== 'verifying' || done !== 4) return
        const lock = JSON.parse(readFileSync(join(`${output}.partial`, 'lock'), 'utf8'))
        expect(lock).toEqual({ process: process.pid, host: hostname() })
      },
    })
  })

  it('refuses a second writer, of this process and of another one', async () => {
    const { lock, path } = await lockWorkspace()
    await expect(padCheckpoint(model, output, options)).rejects.toThrow(
      new RegExp(`Process ${process.pid} on ${hostname()} is writing`),
    )
    const other = spawnSync(process.execPath, ['-e', padProgram], { encoding: 'utf8' })
    expect(other.stdout).toContain(`INVALID_OPTION: Process ${process.pid} on ${hostname()} is writing`)
    expect(readdirSync(`${output}.partial`)).toEqual(['lock'])
    await lock.release()
    await lock.release()
    expect(existsSync(path)).toBe(false)
    expect((await padCheckpoint(model, output, options)).written).toBe(true)
  })

  test.each([
    ['of a process id that is in use again', JSON.stringify({ process: process.pid, host: hostname() })],
    ['of a container that is gone', JSON.stringify({ process: 1, host: 'another machine' })],
    ['cut off while it was written', '{"proc'],
    ['empty', ''],
  ])('takes over from a killed writer: a lock %s', async (_, text) => {
    mkdirSync(`${output}.partial`)
    writeFileSync(join(`${output}.partial`, 'lock'), text)
    expect((await padCheckpoint(model, output, options)).written).toBe(true)
    expect(existsSync(`${output}.partial`)).toBe(false)
  })

  it('does not accept a link as its lock', async () => {
    const victim = join(scratch, 'victim')
    writeFileSync(victim, 'precious')
    mkdirSync(`${output}.partial`)
    symlinkSync(victim, join(`${output}.partial`, 'lock'))
    await expect(padCheckpoint(model, output, options)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    expect(readFileSync(victim, 'utf8')).toBe('precious')
  })

  it('lets one of several concurrent calls write', async () => {
    const calls = Array.from({ length: 4 }, () => padCheckpoint(model, output, options))
    const results = await Promise.allSettled(calls)
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'INVALID_OPTION' })
    }
    expect(contents(output)).toEqual(clean)
  })

  test.skipIf(process.platform === 'win32')('reports a full disk', () => {
    const limited = ['-c', 'ulimit -f 512; exec "$0" -e "$1"', process.execPath, padProgram]
    const { stdout } = spawnSync('sh', limited, { encoding: 'utf8' })
    expect(stdout).toMatch(
      /^OUT_OF_MEMORY: There is no room for the \d+ bytes of .*model-0000\d-of-00003\.safetensors\.unfinished \(EFBIG/,
    )
    expect(stdout).toContain(`or remove ${output}.partial`)
    expect(existsSync(output)).toBe(false)
  })
})

describe('billfish pad', () => {
  const fixture = modelDirectory('qwen2-awq-int4-g128')

  it('reports what it did', async () => {
    const { code, stdout, stderr } = await billfish(['pad', fixture, output, '--multiple', '2,4'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^Channels +384 -> 512, a multiple of 512\nZeros +128, at the end\n/)
    expect(stdout).toMatch(/Layers +model\.layers\.0-2: 27 tensors become larger\n/)
    expect(stdout).toMatch(/Not copied +other weights, not padded: golden\.safetensors\n/)
    expect(stdout).toMatch(/Verified +3 layers: every channel the same bit for bit, every added one\s+exactly zero\n/)
    expect(stdout.endsWith(`Written     ${output}\n`)).toBe(true)
    const again = await billfish(['pad', output, `${output}-again`, '--multiple', '2,4'])
    expect(again).toEqual({
      code: 0,
      stderr: '',
      stdout: "Nothing to pad: the MLPs' 512 channels are a multiple of 512 already.\n",
    })
  })

  it('prints JSON, and nothing in a dry run', async () => {
    const { code, stdout } = await billfish(['pad', fixture, output, '--multiple', '2', '--dry-run', '--json'])
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ written: false, size: 384, paddedSize: 512, multiple: 256 })
    expect((await billfish(['pad', fixture, output, '--to', '768', '--dry-run'])).stdout).toMatch(
      /Not written +a dry run\n$/,
    )
    expect(existsSync(`${output}.partial`)).toBe(false)
  })

  it('shows a progress bar on a terminal', async () => {
    const { stderr } = await billfish(['pad', fixture, output, '--multiple', '2'], { terminal: true })
    expect(stderr).toMatch(/Writing .*of 1\.\d+ MiB/)
    expect(stderr).toMatch(/Verifying .*of 3 layers/)
  })

  test.each([
    [['--multiple', '2,'], /It must be whole numbers from 1 upwards with commas between: 2,4,8/],
    [['--multiple', '0'], /'--multiple <counts>' argument '0' is invalid/],
    [['--multiple', '-2'], /'--multiple <counts>' argument '-2' is invalid/],
    [['--multiple', '99999'], /384 channels would become 12799872, more than 1048576: for 99999 ranks with whole/],
    [['--to', 'wide'], /'--to <size>' argument 'wide' is invalid. It must be a whole number/],
    [['--to', '0'], /to is 0, but must be a whole number from 1 upwards/],
    [[], /parallelSizes or to must say what to pad for/],
    [['--multiple', '2', '--interleave'], /channels cannot move, since AWQ stores no g_idx/],
    [['--to', '500'], /cannot be padded to 500/],
  ])('refuses %j with exit code 2', async (line, message) => {
    const { code, stderr, stdout } = await billfish(['pad', fixture, output, ...line])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  })
})
