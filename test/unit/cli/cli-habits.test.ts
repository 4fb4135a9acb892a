/** What users of other programs type, and what fits their terminals. */
import { join } from 'node:path'
import { Command } from 'commander'
import { describe, expect, it, test } from 'vitest'
import { modelText } from '../../../src/cli/bench-model'
import { addLoadingOptions, type LoadingOptions } from '../../../src/cli/load'
import { addOtherSpellings } from '../../../src/cli/other-spellings'
import { formatRate, formatTable } from '../../../src/common/format'
import { modelDirectory } from '../../support/fixtures'
import { billfish } from '../../support/programs'

const demoModel = join(__dirname, '../../..', 'examples', 'demo-model')
const small = ['--context', '128', '--sequences', '1', '--temperature', '0']

describe('generate', () => {
  const question = 'What is 17 plus 25?'

  it('answers with the chat template if there is one, and says so', async () => {
    const asked = await billfish(['generate', demoModel, question, ...small])
    expect(asked.code).toBe(0)
    expect(asked.stdout).toContain('42')
    expect(asked.stderr).toContain('Answering through the chat template; --raw continues the text as it is.')
    const said = await billfish(['generate', demoModel, question, ...small, '--chat', '--json'])
    const unsaid = await billfish(['generate', demoModel, question, ...small, '--json'])
    expect(JSON.parse(unsaid.stdout)).toMatchObject({ chatTemplate: true, text: JSON.parse(said.stdout).text })
    expect(unsaid.stderr).toBe('')
  })

  it('continues the text with --raw', async () => {
    const { stdout, stderr } = await billfish(['generate', demoModel, question, ...small, '--raw', '-n', '4', '--json'])
    const { usage, chatTemplate } = JSON.parse(stdout)
    const chat = JSON.parse((await billfish(['generate', demoModel, question, ...small, '-n', '4', '--json'])).stdout)
    expect({ chatTemplate, stderr }).toEqual({ chatTemplate: false, stderr: '' })
    expect(usage.promptTokens).toBeLessThan(chat.usage.promptTokens)
  })

  it('takes the prompt as an option, but not twice', async () => {
    expect((await billfish(['generate', demoModel, '-p', question, ...small, '--quiet'])).stdout).toContain('42')
    const twice = await billfish(['generate', demoModel, question, '-p', question])
    expect(twice).toMatchObject({ code: 2, stderr: expect.stringMatching(/given twice/) })
  })

  test.each([['--chat'], ['--system', 'Be brief.'], ['--variable', 'a=1']])(
    'refuses --raw beside %s',
    async (...options) => {
      expect(await billfish(['generate', demoModel, 'Hi', '--raw', ...options])).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(/'--raw' cannot be used with option/),
      })
    },
  )
})

describe("other programs' options", () => {
  test.each([
    ['-c', '96'],
    ['--ctx-size', '96'],
    ['--ctx-size=96'],
    ['--max-model-len', '96'],
    ['--max-model-length', '96'],
  ])('%s is --context', async (...options) => {
    const { stdout } = await billfish(['plan', demoModel, '--devices', 'cpu', '--json', ...options])
    expect(JSON.parse(stdout).sizes.maxModelLength).toBe(96)
  })

  test.each(['--max-tokens', '-n', '--n-predict', '--max-new-tokens'])('%s is --max-new-tokens', async (option) => {
    const { stdout } = await billfish(['generate', demoModel, 'Tell me a story.', ...small, option, '3', '--json'])
    expect(JSON.parse(stdout).usage.completionTokens).toBe(3)
  })

  test.each([
    ['', undefined],
    ['--enable-prefix-caching', true],
    ['--no-enable-prefix-caching', false],
    ['--cache-prompt', true],
    ['--no-cache-prompt', false],
    ['--no-prefix-cache', false],
  ])('of prefix caching: %s', (option, expected) => {
    const command = addLoadingOptions(new Command())
    addOtherSpellings(command)
    command.parse(option === '' ? [] : [option], { from: 'user' })
    expect(command.opts<LoadingOptions>().prefixCache).toBe(expected)
  })

  test.each([
    [['--disable-radix-cache'], /^error: --disable-radix-cache: use --no-prefix-cache/],
    [['--max-tokens', 'many'], /'--max-tokens <count>' argument 'many' is invalid. It must be a whole number/],
    [['--n-cpu-moe', '99'], /^error: --n-cpu-moe: say where experts go with --device-map: .*mlp.experts/],
    [
      ['--n-gpu-layers', '99'],
      /^error: --n-gpu-layers: say where layers go with --device-map, --devices and --max-memory/,
    ],
    [['-ngl', '99'], /^error: -ngl: say where layers go/],
    [['-tp', '2'], /^error: -tp: use --tensor-parallel-size/],
    [['--tokenizer', 'x'], /the tokenizer is the checkpoint's/],
    [['--max_new_tokens', '9'], /^error: --max_new_tokens: it is spelled --max-new-tokens/],
    [['--trust-remote-code'], /runs no checkpoint's code/],
    [['-t', '8'], /BILLFISH_THREADS sets another number/],
    [['--temprature', '1'], /unknown option '--temprature'\n\(Did you mean --temperature\?\)/],
    [['--nonsense'], /^error: unknown option '--nonsense'\n/],
  ])('%j is explained', async (options, message) => {
    const { code, stderr, stdout } = await billfish(['generate', demoModel, 'Hi', ...options])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  })

  it('are not in --help', async () => {
    const { stdout } = await billfish(['generate', '--help'])
    expect(stdout).toContain('--context <tokens>')
    expect(stdout).not.toContain('--ctx-size')
  })
})

describe('tables', () => {
  const lines = async (...argv: string[]) => {
    const { stdout, stderr } = await billfish(argv)
    return [...stdout.split('\n'), ...stderr.split('\n')]
  }

  test.each([
    ['plan', 'Qwen1.5-72B-Chat-GPTQ-Int4', '--devices', '4x24GiB'],
    ['plan', 'Qwen2-72B-Instruct-AWQ-29568', '--devices', '4x24GiB', '--tensor-parallel-size', '4'],
    ['plan', 'Qwen2-72B-Instruct', '--devices', '2x24GiB,cpu=64GiB'],
    ['plan', modelDirectory('qwen2-awq-int4-g128'), '--devices', 'cpu:0,cpu:1'],
    ['inspect', demoModel, '--tensors'],
    ['inspect', modelDirectory('qwen2-vl-bf16')],
    ['generate', demoModel, 'Hi', '-n', '1'],
    ['bench', demoModel, '--batch-sizes', '1', '--contexts', '64', '--repeat', '1', '--new-tokens', '4'],
    ['bench', 'attention', '--device', 'cpu', '--shapes', '8/2x64', '--contexts', '64', '--sequences', '1'],
    ['bench', 'gemm', '--device', 'cpu', '--shapes', '256x256', '--rows', '1', '--bits', '4'],
    ['devices'],
  ])('%s %s fits 80 columns', async (...argv) => {
    for (const line of await lines(...argv)) expect(line.length, line).toBeLessThanOrEqual(80)
  })

  it('has one line per tensor, under the name of its file', async () => {
    const all = await lines('inspect', demoModel, '--tensors')
    expect(all).toContain('model.safetensors:')
    expect(
      all.filter((line) => /^model\.layers\.0\.mlp\.down_proj\.qweight +I32 +80 x 256 +80\.0 KiB$/.test(line)),
    ).toHaveLength(1)
  })

  it('counts CJK characters and emoji as the two columns that a terminal gives them', () => {
    const rows = [
      ['Name', 'Size'],
      ['模型-日本語', '1 GiB'],
      ['fish 🐟🫠', '20 GiB'],
      ['family 👩‍👩‍👧', '3 GiB'],
      ['e\u0301te\u0301', '4 GiB'],
    ]
    expect(formatTable(rows, 'lr').trimEnd().split('\n')).toEqual([
      'Name           Size',
      '模型-日本語   1 GiB',
      'fish 🐟🫠    20 GiB',
      'family 👩‍👩‍👧     3 GiB',
      'e\u0301te\u0301           4 GiB',
    ])
    expect(formatTable([['Name'], ['日本 語']], 'l', 5)).toBe('Name\n日本\n語\n')
  })

  it('has one line of at most 80 columns per measurement, however fast the machine is', () => {
    const memory = [{ device: 'cpu', weights: 1, kvCache: 1, buffers: 1, total: 3 }] as never
    for (const speed of [0.05, 1, 55, 999.7, 1234, 9999.9, 45_678, 999_900, 3e6, 4e8]) {
      const runs = [0.9, 1, 1.2].map((factor) => ({
        prefillTokensPerSecond: speed * factor,
        decodeTokensPerSecond: speed * factor,
        utilization: [1],
      }))
      const results = [{ batchSize: 100, context: 131_072, runs }] as never
      const text = modelText({ newTokens: 8, loadMilliseconds: 1, results, stages: ['cpu'], deviceMap: {}, memory })
      for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80)
      expect(text, text).toMatch(/^ +100 +131072 .* 100 %$/m)
    }
  })

  test.each([
    [0.0512, '0.0512'],
    [5.4321, '5.43'],
    [99.96, '100'],
    [4321.5, '4,322'],
    [9999.4, '9,999'],
    [9999.6, '10.0k'],
    [43_215, '43.2k'],
    [999_400, '999k'],
    [999_600, '1.00M'],
    [12_345_678, '12.3M'],
  ])('a rate of %d is %s', (rate, text) => expect(formatRate(rate)).toBe(text))

  it('puts the bars beside the sizes where the terminal is wide enough', async () => {
    const wide = await billfish(['plan', 'Qwen1.5-72B-Chat-GPTQ-Int4', '--devices', '4x24GiB'], {
      terminal: true,
      columns: 140,
    })
    expect(wide.stdout).toMatch(/^cuda:0 .*GiB {2}\[#+\++.*\] \d+ % of 24\.0 GiB$/m)
    const narrow = await billfish(['plan', 'Qwen1.5-72B-Chat-GPTQ-Int4', '--devices', '4x24GiB'], {
      terminal: true,
      columns: 90,
    })
    expect(narrow.stdout).toMatch(/^cuda:0 {2}\[#+\++.*\] \d+ % of 24\.0 GiB$/m)
    expect(narrow.stdout.split('\n').some((line) => line.length > 80)).toBe(true)
  })
})

describe('a mistake in a command line', () => {
  const ask = ['generate', demoModel, 'Hi', ...small]

  test.each([
    [['-n', '0'], /maxNewTokens is 0/],
    [['--temp', '-1'], /temperature is -1/],
    [['--temp', '0x10'], /must be a number/],
    [['--temp', ''], /must be a number/],
    [['--stop', ''], /stop is/],
    [['--seed', '18446744073709551616'], /seed is "18446744073709551616"/],
    [['--logprobs', '2'], /--logprobs shows nothing without --json/],
    [['--trace', join(demoModel, 'no', 'trace.json')], /--trace .* does not exist; create it first/],
    [['--trace', demoModel], /--trace .*EISDIR/],
  ])('is reported before a model is loaded: %j', async (options, message) => {
    const { code, stdout, stderr } = await billfish([...ask, ...options])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).not.toContain('KV cache')
  })

  test('is reported as JSON with --json', async () => {
    for (const options of [['--foo'], ['--max_tokens', '3'], ['-n', 'many'], ['--raw', '--chat'], ['and', 'more']]) {
      const { code, stdout, stderr } = await billfish([...ask, ...options, '--json'])
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      const { error } = JSON.parse(stderr)
      expect(error).toEqual({ code: 'INVALID_OPTION', message: expect.stringMatching(/^[^\n]{10,}$/) })
    }
  })

  test('can be an empty prompt, given or piped', async () => {
    for (const line of [
      ['generate', demoModel, ''],
      ['generate', demoModel],
      ['generate', demoModel, '--prompt='],
    ])
      expect(await billfish([...line, '--chat'])).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(/prompt is empty/),
      })
  })

  test('may be a prompt that begins with a dash', async () => {
    const told = await billfish(['generate', demoModel, '-5 + 3'])
    expect(told).toMatchObject({ code: 2, stderr: expect.stringContaining('goes behind --prompt= or --') })
    for (const words of [['--prompt=-5 + 3'], ['-p', '-5 + 3']])
      expect(await billfish(['generate', demoModel, ...words, ...small, '--quiet'])).toMatchObject({ code: 0 })
    expect(await billfish(['generate', demoModel, ...small, '--quiet', '--', '-5 + 3'])).toMatchObject({ code: 0 })
  })

  test('may be a name in camel case', async () => {
    const { stderr } = await billfish([...ask, '--maxNewTokens', '3'])
    expect(stderr).toContain('it is spelled --max-new-tokens')
  })
})

test('a seed may have 64 bits', async () => {
  const line = ['generate', demoModel, 'Hi', '-n', '2', '--json', '--seed', '18446744073709551615']
  expect(JSON.parse((await billfish(line)).stdout).seed).toBe('18446744073709551615')
})
