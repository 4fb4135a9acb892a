import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type DeviceMap, loadModel } from '../../../src/index'
import { golden, greedyTokens, modelDirectory } from '../../support/fixtures'

const name = 'qwen2-gptq-int4-g128'
const directory = modelDirectory(name)
const deviceMap = { '': 'cpu', 'model.layers.1': 'disk', lm_head: 'disk' }

/** The files of this process's mappings that lie in a directory, whatever has become of their names. */
function mappedFrom(directory: string): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`${directory}/`))
}

describe("device 'disk'", () => {
  let offloadDirectory = ''
  beforeEach(() => {
    offloadDirectory = mkdtempSync(join(tmpdir(), 'billfish-disk-'))
  })
  afterEach(() => rmSync(offloadDirectory, { recursive: true }))

  test.each(['qwen2-gptq-int4-g32-desc_act', 'qwen3-awq-int4-g64', 'qwen2-bf16'])(
    '%s: layers on the disk give bit for bit what the CPU does',
    async (name) => {
      const { prompts, greedy } = golden(name)
      const prompt = prompts.p33 as number[]
      const load = (deviceMap: DeviceMap) =>
        loadModel(modelDirectory(name), { deviceMap, offloadDirectory, maxModelLength: 64 })
      await using onCpu = await load('cpu')
      await using onBoth = await load(deviceMap)
      expect((await onBoth.forward(prompt)).logits).toEqual((await onCpu.forward(prompt)).logits)
      expect(await greedyTokens(onBoth, prompt)).toEqual(greedy.p33)
    },
  )

  test.runIf(process.platform === 'linux')(
    'has its weights in offloadDirectory, without a name, until dispose()',
    async () => {
      const model = await loadModel(directory, { deviceMap, offloadDirectory, maxModelLength: 64 })
      expect(mappedFrom(offloadDirectory)).toHaveLength(2) // a file a stage
      expect(readdirSync(offloadDirectory)).toEqual([])
      await model.dispose()
      expect(mappedFrom(offloadDirectory)).toEqual([])
      expect(readdirSync(offloadDirectory)).toEqual([])
    },
  )

  test.runIf(process.platform === 'linux')('frees its space when loading is aborted', async () => {
    const controller = new AbortController()
    const loading = loadModel(directory, {
      deviceMap,
      offloadDirectory,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' })
    expect(mappedFrom(offloadDirectory)).toEqual([])
  })

  test('a path that is not a directory is refused, unless nothing goes to disk', async () => {
    const missing = join(offloadDirectory, 'missing')
    for (const wrong of [missing, __filename, '']) {
      await expect(loadModel(directory, { deviceMap, offloadDirectory: wrong })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringMatching(/^offloadDirectory/),
      })
    }
    await using model = await loadModel(directory, { offloadDirectory: missing })
    expect(model.deviceMap['model.norm']).toBe('cpu')
  })

  test('a full disk is an error that names the directory and the bytes', () => {
    const program = `require(${JSON.stringify(resolve(__dirname, '../../../dist/index.js'))})
      .loadModel(${JSON.stringify(directory)}, ${JSON.stringify({ deviceMap: 'disk', offloadDirectory })})
      .catch(({ code, message }) => console.log(code + ': ' + message))`
    const { stdout } = spawnSync('sh', ['-c', 'ulimit -f 16; exec "$0" -e "$1"', process.execPath, program], {
      encoding: 'utf8',
    })
    expect(stdout).toMatch(/^OUT_OF_MEMORY: Device disk has no room for \d+ more bytes in '/)
    expect(stdout).toContain(`'${offloadDirectory}', where `)
    expect(readdirSync(offloadDirectory)).toEqual([])
  })

  const memory = '/dev/shm'
  const hasMemory = process.platform === 'linux' && existsSync(memory) && statfsSync(memory).type === 0x01021994
  test.runIf(hasMemory)('warns if the files are in memory', async () => {
    const warned = new Promise<Error>((tell) => process.once('warning', tell))
    await using model = await loadModel(directory, { deviceMap, offloadDirectory: memory, maxModelLength: 64 })
    expect(await warned).toMatchObject({
      code: 'BILLFISH_OFFLOAD_IN_MEMORY',
      message: expect.stringContaining(`${memory}, which is in memory`),
    })
    expect(model.memory().map(({ device }) => device)).toEqual(['cpu', 'disk'])
  })
})
