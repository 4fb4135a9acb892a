import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tuneGemm } from '../../../src/benchmark/tune'
import { EXIT_CODES } from '../../../src/cli/program'
import { scratchDirectory } from '../../support/directories'
import { billfish } from '../../support/programs'

// On an emulated device: times mean nothing, but the file is what loading reads.

const folder = scratchDirectory()

const small = {
  device: 'emulated:0',
  shapes: [{ name: 'small', outs: [64, 64, 128], in: 64 }],
  rows: [8, 256],
  bits: [4, 16],
  groupSize: 32,
  zeroPoints: false,
  bfloat16: false,
  runs: 1,
  launches: 1,
}

describe('billfish bench tune', () => {
  it('writes a table of its measurements, and keeps those of other devices', async () => {
    const file = join(folder, 'new', 'tuning.txt')
    const report = await tuneGemm({ ...small, file })
    expect(report).toMatchObject({ device: 'emulated:0', machine: 'emulated Hopper', file })
    // Two weights of different shapes, with two numbers of bits on two numbers of rows.
    expect(report.results).toHaveLength(8)
    for (const { bits, rows, fusedMicroseconds, panelMicroseconds, tiles } of report.results) {
      expect(fusedMicroseconds).toBeGreaterThan(0)
      expect(tiles[0]?.microseconds).toBe(fusedMicroseconds)
      expect(tiles.map(({ microseconds }) => microseconds)).toEqual(
        tiles.map(({ microseconds }) => microseconds).sort((a, b) => a - b),
      )
      expect(tiles.length).toBeLessThanOrEqual(3)
      expect(panelMicroseconds !== null).toBe(bits === 4 && rows === 256) // emulated devices have no cuBLAS
    }
    const table = readFileSync(file, 'utf8')
    expect(table).toMatch(/^billfish cuda tuning 1\ndevice emulated Hopper\npanel-factor [\d.e+-]+\n(tile .+\n)+/)
    expect(table).toMatch(/\ncrossover 4 64x64 (256|never)\ncrossover 4 128x64 (256|never)\n$/)

    const other = 'device NVIDIA H200\npanel-factor 2\n'
    writeFileSync(file, `billfish cuda tuning 1\n${other}`)
    await tuneGemm({ ...small, bits: [4], file })
    expect(readFileSync(file, 'utf8')).toContain(`tuning 1\n${other}device emulated Hopper\n`)
  })

  it('refuses a file that is not a table before it measures', async () => {
    const file = join(folder, 'note.txt')
    writeFileSync(file, 'Dear diary')
    await expect(tuneGemm({ ...small, file })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('note.txt line 1: a CUDA tuning begins with'),
    })
    expect(readFileSync(file, 'utf8')).toBe('Dear diary')
  })

  it('reports progress, and ends early on request', async () => {
    const seen: [number, number][] = []
    const onProgress = (done: number, all: number) => seen.push([done, all])
    await tuneGemm({ ...small, rows: [8], bits: [4], file: join(folder, 'watched.txt'), onProgress })
    expect(seen).toEqual([
      [0, 2],
      [1, 2],
      [2, 2],
    ])

    const file = join(folder, 'aborted.txt')
    const controller = new AbortController()
    const reason = new Error('enough')
    const aborted = tuneGemm({
      ...small,
      file,
      signal: controller.signal,
      onProgress: (done) => done === 1 && controller.abort(reason),
    })
    await expect(aborted).rejects.toBe(reason)
    expect(existsSync(file)).toBe(false)
    await expect(tuneGemm({ ...small, file, signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    })
  })

  it.each([0, 1, 2])('ends with what onProgress throws after %i points', async (points) => {
    const file = join(folder, 'thrown.txt')
    const onProgress = (done: number) => {
      if (done === points) throw new Error('enough')
    }
    await expect(tuneGemm({ ...small, rows: [8], bits: [4], file, onProgress })).rejects.toThrow('enough')
    expect(existsSync(file)).toBe(false)
  })

  it('measures every tile, those with bulk copies among them', async () => {
    const shapes = [{ name: 'one', outs: [128], in: 128 }]
    const file = join(folder, 'tiles.txt')
    const { results } = await tuneGemm({ ...small, shapes, rows: [8], bits: [4], everyTile: true, file })
    const tiles = results[0]?.tiles ?? []
    expect(tiles.length).toBeGreaterThan(3)
    expect(new Set(tiles.map(({ bulk }) => bulk))).toEqual(new Set([true, false]))
    expect(
      new Set(tiles.map(({ tokens, outputs, inputs, bulk }) => `${tokens}x${outputs}x${inputs} ${bulk}`)).size,
    ).toBe(tiles.length)
    for (const { blocks, microseconds } of tiles) expect([blocks > 0, microseconds > 0]).toEqual([true, true])
  })

  it('names a file that cannot be written', async () => {
    const file = join(folder, 'note.txt', 'below.txt') // a file where a folder should be
    writeFileSync(join(folder, 'note.txt'), '')
    await expect(tuneGemm({ ...small, rows: [8], bits: [4], file })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining(`The CUDA tuning ${file} cannot be`),
    })
  })

  it('is a command', async () => {
    const file = join(folder, 'command.txt')
    const options = ['--shapes', '64x64', '--rows', '8', '--bits', '4', '--group', '0', '--runs', '1', '--output', file]
    const { code, stdout } = await billfish(['bench', 'tune', '--device', 'emulated:0', ...options])
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(
      /emulated Hopper\nShape +Bits +Rows +us +By tile +us by panels\n64x64 +4 +8 +[\d.]+ +\d+x\d+x\d+( bulk)? +-\nWritten to /,
    )
    const shown = await billfish(['bench', 'tune', '--device', 'emulated:0', ...options], { terminal: true })
    expect(shown.stderr).toMatch(/Measuring .* 0 of 1/)
    const { stderr } = await billfish(['bench', 'tune', '--device', 'emulated:0', ...options, '--runs', '0'])
    expect(stderr).toMatch(/^billfish: .*runs.* 0/)
    const onCpu = await billfish(['bench', 'tune', '--device', 'cpu', ...options])
    expect(onCpu.stderr).toContain("There is nothing to tune on device 'cpu'; name a GPU such as cuda:0.")
  })
})
