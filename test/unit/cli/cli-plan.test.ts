import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseDevices, parseMaxMemory } from '../../../src/cli/device-list'
import { EXIT_CODES } from '../../../src/cli/program'
import { scratchDirectory } from '../../support/directories'
import { billfish } from '../../support/programs'

const GiB = 2 ** 30
const demoModel = resolve(__dirname, '../../..', 'examples', 'demo-model')
const plan = (...argv: string[]) => billfish(['plan', ...argv])
const planned = async (...argv: string[]) => JSON.parse((await plan(...argv, '--json')).stdout)

describe('--devices', () => {
  it.each([
    ['4x24GiB', [0, 1, 2, 3].map((i) => ({ device: `cuda:${i}`, memory: 24 * GiB }))],
    ['24GiB, 80GiB@2.5', [{ device: 'cuda:0' }, { device: 'cuda:1', memory: 80 * GiB, speed: 2.5 }]],
    ['cpu=64GiB@0.1,24GiB', [{ device: 'cpu', memory: 64 * GiB, speed: 0.1 }, { device: 'cuda:0' }]],
    ['8GiB,cuda:1=2GB,8GiB', [{ device: 'cuda:0' }, { device: 'cuda:1', memory: 2e9 }, { device: 'cuda:2' }]],
    ['2x1.5GiB@2', [{ speed: 2, memory: 1.5 * GiB }, { speed: 2 }]],
    ['cpu:0,1,cuda', ['cpu:0', 'cuda:1', 'cuda:0']],
    ['cpu@0.5', [{ device: 'cpu', memory: undefined, speed: 0.5 }]],
  ])('%s', (list, devices) => expect(parseDevices(list)).toMatchObject(devices))

  it.each([
    ['tpu', /--devices tpu: "tpu" is neither a device nor a size\. Entries look like 24GiB, 4x24GiB/],
    ['4xmuch', /--devices 4xmuch: "much" is not a memory size/],
    ['cuda:0=', /--devices cuda:0=: "" is not a memory size/],
    ['gpu=4GiB', /"gpu" is neither/],
    ['0x24GiB', /--devices 0x24GiB: it is no device/],
    ['24GiB,', /"" is neither/],
    ['24GiB@', /"" is not a speed/],
    ['24GiB@-1', /"-1" is not a speed/],
    ['24GiB@1@2', /"1@2" is not a speed/],
  ])('%s is refused', (list, message) => expect(() => parseDevices(list)).toThrow(message))
})

describe('--max-memory', () => {
  it('is a list or JSON', () => {
    expect(parseMaxMemory('cuda:0=20GiB, cpu=64GiB')).toEqual({ 'cuda:0': '20GiB', cpu: '64GiB' })
    expect(parseMaxMemory('{"0": "20GiB", "cpu": 1000}')).toEqual({ 0: '20GiB', cpu: 1000 })
  })

  it.each([
    ['20GiB', /--max-memory 20GiB: give each device its size/],
    ['{', /--max-memory is not JSON/],
  ])('%s is refused', (text, message) => expect(() => parseMaxMemory(text)).toThrow(message))
})

describe('billfish plan', () => {
  it('shows devices, modules, bytes and how full each device is', async () => {
    const { code, stdout } = await plan('Qwen3-8B', '--devices', '2x24GiB', '--context', '4096')
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/^cuda:0 +embed_tokens, .*\n +layers 0-\d+\n/m)
    expect(stdout).toMatch(/^cuda:0 +\[#+\++=*\.+\] \d+ % of 24\.0 GiB$/m)
    expect(stdout).toMatch(/cuda:1 +layers \d+-35, norm, .*\n +lm_head\n/)
    expect(stdout).toMatch(/^together +15\.3 GiB/m)
    expect(stdout).toContain('It fits.')
    for (const line of stdout.split('\n').slice(7)) expect(line.length).toBeLessThanOrEqual(100)
  })

  it('draws all bars in proportion and equally wide, and marks what does not fit', async () => {
    const { stdout } = await plan('Qwen3-8B', '--devices', '10GiB,6GiB,80GiB', '--device-map', 'split:0,1,2')
    const bars = [...stdout.matchAll(/^cuda:\d .*\[(.*)\] (\d+) %/gm)].map(([, bar = '', percent]) => ({
      bar,
      percent,
    }))
    expect(bars).toHaveLength(3)
    for (const { bar } of bars) expect(bar).toHaveLength(20)
    for (const { bar, percent } of bars) {
      const used = bar.replace(/[.!]/g, '').length / bar.length
      if (Number(percent) > 100) expect(bar).toMatch(/^#+\+*~*!+$/)
      else expect(Math.abs(used - Number(percent) / 100)).toBeLessThan(1 / 20)
    }
    expect(stdout).toMatch(/! over budget/)
    const unlimited = await plan('Qwen3-8B', '--devices', 'cuda:77') // which no machine has
    expect(unlimited.stdout).not.toMatch(/\[|Memory/)
  })

  it('prints the whole plan as JSON', async () => {
    const devices = 'cpu:0=8MiB,cpu:1=1GiB'
    const { fits, stages, deviceMap } = await planned(
      demoModel,
      '--devices',
      devices,
      '--context',
      '64',
      '--sequences',
      '1',
    )
    expect(fits).toBe(true)
    expect(stages.map(({ budget }: { budget: number }) => budget)).toEqual([2 ** 23, 2 ** 30])
    expect(Object.keys(deviceMap)).toHaveLength(11)
  })

  it('passes every size on', async () => {
    const sizes = ['--context', '128', '--sequences', '3', '--max-batch-tokens', '32', '--max-cache-tokens', '256']
    expect((await planned(demoModel, ...sizes, '--dtype', 'float32')).sizes).toMatchObject({
      maxModelLength: 128,
      maxSequences: 3,
      maxBatchTokens: 32,
      maxCacheTokens: 256,
      dtype: 'float32',
    })
    expect((await planned(demoModel, '--max-model-length', '96')).sizes).toMatchObject({ maxModelLength: 96 })
  })

  it.each(['balanced', 'balanced_low_0', 'sequential', 'auto'])('places by --device-map %s', async (strategy) => {
    const { stages } = await planned('Qwen3-8B', '--devices', '2x24GiB', '--device-map', strategy)
    expect(stages[0].modules[0]).toBe('model.embed_tokens')
    expect(stages.at(-1).modules.at(-1)).toBe('lm_head')
    const layers = (stages[0].modules as string[]).filter((module) => /\.\d+$/.test(module)).length
    if (strategy === 'sequential') expect(stages).toHaveLength(1)
    else if (strategy === 'balanced_low_0') expect(stages).toMatchObject([{ device: 'cuda:1' }])
    else expect(Math.abs(layers - 18)).toBeLessThan(5)
  })

  it('takes equal shares, explicit maps and one device, within what the devices may hold', async () => {
    const shares = await planned(
      'Qwen-72B-Chat-Int8',
      '--device-map',
      'split:cpu:0,cpu:1',
      '--devices',
      'cpu:0=60GiB,cpu:1=60GiB',
    )
    expect(shares.stages.map(({ modules }: { modules: string[] }) => modules.length)).toEqual([41, 42])
    expect(shares.deviceMap['transformer.h.40']).toBe('cpu:1')
    const map = '{"": "cpu:0", "model.layers.35": 1}'
    const { stdout } = await plan('Qwen3-8B', '--device-map', map, '--max-memory', '{"cpu:0": "1GiB"}')
    expect(stdout).toMatch(/cuda:1 +layers 35 /)
    expect(stdout).toMatch(/^cpu:0 +\[#+!+\] \d{4} % of 1\.00 GiB$/m)
  })

  it('reports what does not fit, and exits with 1', async () => {
    const { code, stdout, stderr } = await plan('Qwen3-8B', '--devices', '1GiB')
    expect({ code, stderr }).toEqual({ code: EXIT_CODES.error, stderr: '' })
    expect(stdout).toMatch(/It does not fit: cuda:0 lacks [\d,]+ bytes/)
    const json = await plan('Qwen3-8B', '--devices', '1GiB', '--json')
    expect(json).toMatchObject({ code: EXIT_CODES.error, stderr: '' })
    expect(JSON.parse(json.stdout).fits).toBe(false)
  })

  it.each([
    [['no-such-model'], /neither a checkpoint directory, a preset nor the name/],
    [['Qwen3-8B', '--devices', '4xmuch'], /--devices 4xmuch/],
    [['Qwen3-8B', '--devices', 'cuda:0=1GiB,cuda=2GiB'], /cuda:0 twice/],
    [['Qwen3-8B', '--device-map', '{nonsense'], /--device-map is not JSON/],
    [['Qwen3-8B', '--device-map', 'split:cpu,tpu'], /"tpu" is not a device/],
    [
      ['Qwen3-8B', '--device-map', 'split:cpu:0,cpu:1', '--devices', '2x40GiB'],
      /names cpu:0, but devices lists cuda:0, cuda:1/,
    ],
    [['Qwen3-8B', '--context', 'long'], /--context/],
    [['Qwen3-8B', '--dtype', 'float8'], /dtype is "float8"/],
    [
      ['Qwen3-8B', '--svg', join('/nowhere', 'plan.svg')],
      /--svg \/nowhere\/plan\.svg: the directory \/nowhere does not/,
    ],
    [['Qwen3-8B', '--svg', '/'], /--svg \/: EISDIR/],
  ])('%j is a wrong command line', async (argv, message) => {
    const { code, stderr, stdout } = await plan(...argv)
    expect(code).toBe(EXIT_CODES.usage)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
  })

  describe('--svg', () => {
    const directory = scratchDirectory()

    it('draws a picture, in place of an older one', async () => {
      const file = join(directory, 'plan.svg')
      const draw = (...argv: string[]) => plan(...argv, '--context', '64', '--sequences', '1', '--svg', file)
      expect((await draw('Qwen3-8B', '--devices', '2x24GiB')).stdout).toContain('It fits.')
      expect(readFileSync(file, 'utf8')).toMatch(/^<svg .*Qwen3-8B.*context 64 · 1 sequence/)
      expect(JSON.parse((await draw(demoModel, '--json')).stdout).fits).toBe(true)
      expect(readFileSync(file, 'utf8')).toContain('>demo-model<')
    })
  })
})

describe('loading from the command line', () => {
  const ask = ['generate', demoModel, '--chat', 'What is 17 plus 25?', '--context', '128', '--sequences', '1']

  it('shows the plan on standard error, and loads as planned', async () => {
    const { code, stdout, stderr } = await billfish([...ask, '--devices', 'cpu:0=9MiB,cpu:1=10MiB'])
    expect({ code, stdout }).toEqual({ code: 0, stdout: '17 + 25 = 42.\n' })
    expect(stderr).toMatch(/^Device +Modules.*\ncpu:0 [\s\S]*^cpu:0 +\[#+\+*~+\.+\] \d+ % of 9\.00 MiB\ncpu:1 /m)
    expect(stderr.match(/^Device/gm)).toHaveLength(1)
    const json = JSON.parse((await billfish([...ask, '--devices', 'cpu:0=9MiB,cpu:1=10MiB', '--json'])).stdout)
    const { stages } = await planned(demoModel, '--devices', 'cpu:0=9MiB,cpu:1=10MiB', ...ask.slice(-4))
    expect(json.memory).toMatchObject(
      stages.map(({ device, weights, kvCache, buffers }: Record<string, unknown>) => ({
        device,
        weights,
        kvCache,
        buffers,
      })),
    )
  })

  it('is silent with --quiet', async () => {
    const { stderr } = await billfish([...ask, '--devices', 'cpu:0,cpu:1', '--quiet'], { terminal: true })
    expect(stderr).toBe('')
  })

  it('shows the plan that does not fit, and says what would help', async () => {
    const { code, stdout, stderr } = await billfish([...ask, '--max-memory', 'cpu=4MiB'])
    expect({ code, stdout }).toEqual({ code: EXIT_CODES.error, stdout: '' })
    expect(stderr).toMatch(/^cpu .*!+\] \d+ % of 4\.00 MiB/m)
    expect(stderr).toMatch(/^billfish: The model does not fit\. .*lacks [\d,]+ bytes/m)
  })

  it('places as asked in the demo', async () => {
    const { stdout } = await billfish(['demo', '--devices', 'cpu:7', '--json'])
    expect(new Set(Object.values(JSON.parse(stdout).deviceMap))).toEqual(new Set(['cpu:7']))
  })

  it('does not mistake the name of a release for a checkpoint', async () => {
    const { code, stderr } = await billfish(['generate', 'Qwen3-8B', 'x'])
    expect(code).toBe(EXIT_CODES.error)
    expect(stderr).toMatch(/^billfish: .*Qwen3-8B does not exist: expected a checkpoint directory/)
  })
})
