import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EXIT_CODES } from '../../../src/cli/program'
import { summarizeModules } from '../../../src/common/format'
import { loadModel, planModel } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { withConfig } from '../../support/fixture-copies'
import { billfish } from '../../support/programs'
import { safetensors } from '../../support/tensors'

const root = resolve(__dirname, '../../..')
const demoModel = join(root, 'examples', 'demo-model')
const fixtureModel = join(root, 'test', 'fixtures', 'models', 'qwen2-bf16')

describe('the command line', () => {
  it.each([
    ['--help'],
    ['generate --help'],
    ['chat --help'],
    ['download --help'],
    ['inspect --help'],
    ['plan --help'],
    ['pad --help'],
    ['devices --help'],
    ['bench --help'],
    ['bench model --help'],
    ['bench gemm --help'],
    ['bench attention --help'],
    ['demo --help'],
  ])('%s shows examples', async (line) => {
    const { code, stdout, stderr } = await billfish(line.split(' '))
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/Examples:\n +billfish /)
    expect(stderr).toBe('')
  })

  it('prints its version', async () => {
    expect(await billfish(['--version'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
  })

  it.each([
    ['nonsense', /unknown command 'nonsense'/],
    ['generate', /missing required argument 'directory'/],
    ['generate x --nonsense', /unknown option '--nonsense'/],
    ['generate x y --top-k many', /argument 'many' is invalid\. It must be a whole number/],
    ['generate x y --temperature warm', /argument 'warm' is invalid\. It must be a number/],
    ['chat x --variable thinking', /It must look like name=value/],
  ])('refuses "%s" with exit code 2', async (line, message) => {
    const { code, stdout, stderr } = await billfish(line.split(' '))
    expect(code).toBe(EXIT_CODES.usage)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
  })

  it('exits with 1 and a message if a checkpoint does not exist, as JSON on request', async () => {
    const { code, stderr, stdout } = await billfish(['inspect', '/nowhere'])
    expect(code).toBe(EXIT_CODES.error)
    expect(stderr).toMatch(
      /^billfish: \/nowhere does not exist: expected a checkpoint directory as on the Hugging Face Hub/,
    )
    expect(stdout).toBe('')
    const json = await billfish(['generate', '/nowhere', 'x', '--json'])
    expect(json).toMatchObject({ code: EXIT_CODES.error, stdout: '' })
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'INVALID_CHECKPOINT' } })
  })
})

describe('billfish devices', () => {
  it('shows the CPU, and why there is no CUDA device', async () => {
    const { code, stdout } = await billfish(['devices'])
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/^cpu +\d+ cores, /)
    expect(stdout).toMatch(/CUDA/)
  })

  it('prints JSON', async () => {
    const found = JSON.parse((await billfish(['devices', '--json'])).stdout)
    expect(found.devices[0]).toMatchObject({ device: 'cpu', kind: 'cpu' })
  })
})

describe('billfish inspect', () => {
  it('describes a checkpoint', async () => {
    const { code, stdout } = await billfish(['inspect', demoModel])
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/Format +GPTQ int4, group 128/)
    expect(stdout).toMatch(/8 layers, hidden size 256/)
    expect(stdout).toMatch(/Tokenizer +2,048 tokens, with a chat template/)
  })

  it('lists tensors, and prints JSON', async () => {
    const { stdout } = await billfish(['inspect', fixtureModel, '--tensors'])
    expect(stdout).toMatch(/^model-00003-of-00003\.safetensors:\n[\s\S]*^model\.norm\.weight +BF16 +\d+ +\d+ B$/m)
    const json = JSON.parse((await billfish(['inspect', fixtureModel, '--tensors', '--json'])).stdout)
    expect(json).toMatchObject({ modelType: 'qwen2', tokenizer: null, files: 3, unsupported: null })
    expect(json.tensors).toHaveLength(json.tensorCount)
  })

  it('says which devices would refuse the model, and why', async () => {
    const sizes = { num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 1, intermediate_size: 16 }
    const config = { model_type: 'llama', ...sizes, head_dim: 272, vocab_size: 8, tie_word_embeddings: true }
    const shapes: Record<string, number[]> = {
      'embed_tokens.weight': [8, 16],
      'norm.weight': [16],
      'layers.0.input_layernorm.weight': [16],
      'layers.0.post_attention_layernorm.weight': [16],
      'layers.0.self_attn.o_proj.weight': [16, 272],
    }
    for (const name of ['q', 'k', 'v']) shapes[`layers.0.self_attn.${name}_proj.weight`] = [272, 16]
    for (const name of ['gate', 'up', 'down']) shapes[`layers.0.mlp.${name}_proj.weight`] = [16, 16]
    const stored = (names: string[]) =>
      safetensors(
        Object.fromEntries(names.map((name) => [`model.${name}`, { dtype: 'F16', shape: shapes[name] as number[] }])),
      )
    const directory = directoryOf({ 'config.json': config, 'model.safetensors': stored(Object.keys(shapes)) })
    const { stdout } = await billfish(['inspect', directory])
    expect(stdout).toMatch(
      /Devices +cpu\n +not cuda: The model's heads have 272 columns \(head_dim\), but cuda\s+devices/,
    )
    const { devices } = JSON.parse((await billfish(['inspect', directory, '--json'])).stdout)
    expect(devices).toEqual({
      cpu: null,
      cuda: { code: 'UNSUPPORTED_MODEL', message: expect.stringContaining('up to 256') },
    })
    // The same at load, and in a plan.
    await expect(loadModel(directory, { deviceMap: 'emulated:0' })).rejects.toMatchObject({ code: devices.cuda.code })
    await expect(planModel(directory, { deviceMap: 'cuda:0' })).rejects.toMatchObject(devices.cuda)

    const rest = Object.keys(shapes).filter((name) => name !== 'layers.0.mlp.up_proj.weight')
    const cut = directoryOf({ 'config.json': { ...config, head_dim: 272 }, 'model.safetensors': stored(rest) })
    const lacking = JSON.parse((await billfish(['inspect', cut, '--json'])).stdout)
    expect(lacking).toMatchObject({
      shape: null,
      devices: null,
      unsupported: expect.stringContaining('"model.layers.0.mlp.up_proj.weight" is missing'),
    })
  })

  it('describes a checkpoint that cannot be run', async () => {
    const unknown = withConfig('qwen3-moe-bf16', (config) => ({ ...config, model_type: 'qwen4_exp' }))
    const { code, stdout } = await billfish(['inspect', unknown])
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/cannot be run: [\s\S]*qwen4_exp[\s\S]*supports\s+qwen,\s+qwen2,/)
  })

  it('names a format that cannot be run, as load and plan do when they refuse it', async () => {
    const config = { ...JSON.parse(readFileSync(join(fixtureModel, 'config.json'), 'utf8')) }
    config.quantization_config = { quant_method: 'modelopt', quant_algo: 'W4A8_AWQ' }
    const tensors = { 'model.layers.0.mlp.up_proj.weight': { dtype: 'U8', shape: [128, 32] } }
    const directory = directoryOf({ 'config.json': config, 'model.safetensors': safetensors(tensors) })
    const { code, stdout } = await billfish(['inspect', directory])
    expect(code).toBe(EXIT_CODES.ok)
    expect(stdout).toMatch(/Model +cannot be run: its weights are stored as ModelOpt W4A8_AWQ\n/)
    expect(stdout).toMatch(/Format +ModelOpt W4A8_AWQ\n/)
    for (const command of ['plan', 'generate']) {
      const refused = await billfish([command, directory, ...(command === 'generate' ? ['question'] : [])])
      expect(refused.code).not.toBe(EXIT_CODES.ok)
      expect(refused.stderr).toContain('in a format that billfish cannot run: ModelOpt W4A8_AWQ')
    }
  })
})

describe('billfish generate', () => {
  const ask = ['generate', demoModel, '--chat', 'What is 17 plus 25?']

  it('streams an answer to standard output and statistics to standard error', async () => {
    const { code, stdout, stderr } = await billfish([...ask, '--device-map', 'split:cpu:0,cpu:1'])
    expect({ code, stdout }).toEqual({ code: 0, stdout: '17 + 25 = 42.\n' })
    expect(stderr).toMatch(/30 prompt tokens, first token after/)
    expect(stderr).toMatch(/^cpu:0 .*\ncpu:1 /m)
    expect((await billfish([...ask, '--quiet'])).stderr).toBe('')
  })

  it('prints JSON with token ids, placement and memory', async () => {
    const { stdout, stderr } = await billfish([...ask, '--json', '--device-map', '{"": "cpu:3"}', '--logprobs', '2'])
    const result = JSON.parse(stdout)
    expect(result).toMatchObject({ text: '17 + 25 = 42.', finishReason: 'stop', usage: { promptTokens: 30 } })
    expect(result.deviceMap).toMatchObject({ 'model.norm': 'cpu:3' })
    expect(result.memory).toMatchObject([{ device: 'cpu:3' }])
    expect(result.logprobs[0].alternatives).toHaveLength(2)
    expect(stderr).toBe('')
  })

  it('continues a text from standard input with sampling options', async () => {
    const stdin = '<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n'
    const line = ['generate', demoModel, '--raw', '--quiet', '--max-new-tokens', '20', '--temperature', '1.5']
    const first = await billfish([...line, '--seed', '1'], { stdin })
    expect(first.stdout).not.toBe('')
    expect((await billfish([...line, '--seed', '1'], { stdin })).stdout).toBe(first.stdout)
    expect((await billfish([...line, '--seed', '2'], { stdin })).stdout).not.toBe(first.stdout)
    const stopped = await billfish([...line.slice(0, 4), '--stop', 'called', '--stop', 'named'], { stdin })
    expect(stopped.stdout).toBe('There once was a clever duck \n')
  })

  it.each([
    [['--temperature', '-1'], /temperature is -1, but must be/],
    [['--max-new-tokens', '9999'], /maxNewTokens is 9999, but must be at most/],
    [['--dtype', 'float8'], /dtype is "float8"/],
    [['--device-map', 'tpu:0'], /"tpu:0" is not a device/],
    [['--device-map', 'split:cpu:0,gpu'], /"gpu" is not a device/],
    [['--device-map', '{"model.layers"'], /--device-map is not JSON/],
    [['--device-map', '{"model.layers": "cpu"}'], /deviceMap leaves out 3 of 11 modules/],
  ])('refuses %j with exit code 2', async (options, message) => {
    const { code, stderr, stdout } = await billfish([...ask, ...options])
    expect(code).toBe(EXIT_CODES.usage)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
  })

  it('shows a progress bar on a terminal only', async () => {
    expect((await billfish(ask, { terminal: true })).stderr).toMatch(/Loading/)
    expect((await billfish(ask)).stderr).not.toMatch(/Loading/)
  })

  it('ends with exit code 130 when interrupted', async () => {
    const line = [
      'generate',
      demoModel,
      '--chat',
      'Tell me a story.',
      '--ignore-eos',
      '--max-new-tokens',
      '900',
      '--quiet',
    ]
    let interrupted = false
    const { code, stdout, stderr } = await billfish(line, {
      onStdout: (interrupt) => {
        if (!interrupted) interrupt()
        interrupted = true
      },
    })
    expect({ code, stderr }).toEqual({ code: EXIT_CODES.interrupted, stderr: '' })
    expect(stdout.length).toBeLessThan(1000)
  })
})

describe('billfish chat', () => {
  it('answers line by line, remembers, and forgets', async () => {
    const stdin = 'What is 3 plus 4?\nWhat is the capital of France?\n/reset\nWhat is 3 plus 4?\n/exit\nnot read\n'
    const { code, stdout } = await billfish(['chat', demoModel, '--json'], { stdin })
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(code).toBe(EXIT_CODES.ok)
    expect(answers).toHaveLength(3)
    expect(answers[0].text).toBe('3 + 4 = 7.')
    expect(answers[1].usage.promptTokens).toBeGreaterThan(answers[0].usage.promptTokens + 20)
    expect(answers[2].usage.promptTokens).toBe(answers[0].usage.promptTokens)
  })

  it('says how to go on when the conversation is too long', async () => {
    const stdin = 'What is 3 plus 4?\nWhat is 3 plus 4?\n/reset\nWhat is 3 plus 4?\n'
    const line = ['chat', demoModel, '--max-model-length', '48', '--quiet']
    const { code, stdout, stderr } = await billfish(line, { stdin })
    expect({ code, stdout }).toEqual({ code: 0, stdout: '3 + 4 = 7.\n3 + 4 = 7.\n' })
    expect(stderr).toMatch(/too long .*\n\(\/reset forgets the conversation/)
  })
})

describe('billfish bench model', () => {
  it('measures every batch size with every context', async () => {
    const line = ['bench', 'model', demoModel, '--contexts', '20,40', '--batch-sizes', '1,3', '--new-tokens', '8']
    const { stdout } = await billfish([...line, '--repeat', '2'])
    expect(stdout).toMatch(/Sequences +Context .*tokens\/s +in runs .*tokens\/s +in runs .*busy\n/)
    const rate = '[\\d,.]+[kM]?'
    const range = `\\(${rate} - ${rate}\\)`
    const row = new RegExp(`^ +[13] +[24]0 +${rate} +${range} +${rate} +${range} +\\d+ %$`, 'gm')
    expect(stdout.match(row)).toHaveLength(4)
    const result = JSON.parse((await billfish([...line, '--repeat', '1', '--json'])).stdout)
    expect(result.results).toHaveLength(4)
    expect(result.results[3]).toMatchObject({ batchSize: 3, context: 40 })
    expect(result.results[3].runs).toHaveLength(1)
    expect(result.results[3].runs[0].decodeTokensPerSecond).toBeGreaterThan(0)
    expect((await billfish([...line, '--repeat', '0'])).code).toBe(EXIT_CODES.usage)
    expect((await billfish([...line, '--context', '47'])).stderr).toMatch(/Sequences of 47 tokens are too short/)
  })

  it('is the default of bench, takes several stages, and writes a trace', async () => {
    const trace = join(mkdtempSync(join(tmpdir(), 'billfish-')), 'trace.json')
    const line = ['bench', demoModel, '--contexts', '40', '--new-tokens', '8', '--repeat', '1', '--trace', trace]
    const several = ['--batch-sizes', '6', '--device-map', 'split:cpu:0,cpu:1', '--micro-batches', '2']
    const { stdout } = await billfish([...line, ...several])
    expect(stdout).toMatch(/ cpu:0 (?:busy)? *cpu:1( busy)?\n(.* busy +busy\n)? +6 +40 .* \d+ % +\d+ %\n/)
    const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8'))
    const tokens = traceEvents.map(({ args }: { args: { tokens?: number } }) => args.tokens ?? 0)
    // Two runs of six sequences, 40 prompt tokens and 8 behind the first one, at two stages
    const computed = tokens.reduce((sum: number, count: number) => sum + count, 0)
    expect(computed).toBeGreaterThanOrEqual(2 * 6 * (40 + 8) * 2)
    expect((await billfish([...line, '--batch-sizes', '0'])).code).toBe(EXIT_CODES.usage)
    expect((await billfish([...line, '--micro-batches', '99'])).stderr).toMatch(/microBatches is 99/)
    const nowhere = ['--trace', join(trace, 'no', 'where.json')]
    expect((await billfish([...line, ...nowhere])).stderr).toMatch(/--trace .*where\.json/)
  })
})

describe('billfish bench model --random', () => {
  it.each(['cpu', 'emulated:0'])('refuses contradictory options, on %s too', async (device) => {
    const line = (options: string) => billfish(['bench', 'model', '--device-map', device, ...options.split(' ')])
    expect((await line('--random nothing')).stderr).toMatch(/there is no model 'nothing'\. There are .*qwen2-72b-int4/)
    expect((await line('--random qwen2-7b --layers 29')).stderr).toMatch(/--layers is 29, but .* 1 to 28 layers/)
    expect((await line(`${demoModel} --layers 1`)).stderr).toMatch(/--layers goes with --random/)
    expect((await line(`${demoModel} --random qwen2-7b`)).stderr).toMatch(/and not both/)
  })
})

describe('billfish demo', () => {
  it('shows the split and answers', async () => {
    const { code, stdout, stderr } = await billfish(['demo', 'What', 'is', '17', 'plus', '25?'])
    expect(code).toBe(EXIT_CODES.ok)
    expect(stderr).toMatch(/^Device +Modules/)
    expect(stdout).toMatch(/^> What is 17 plus 25\?\n\n17 \+ 25 = 42\.\n/)
    const json = JSON.parse((await billfish(['demo', '--json'])).stdout)
    expect(new Set(Object.values(json.deviceMap)).size).toBeGreaterThanOrEqual(1)
    expect(json.text).toMatch(/padded with zeros/)
  })
})

describe.skipIf(!existsSync(join(root, 'dist', 'cli', 'main.js')))('the program itself (dist/cli/main.js)', () => {
  const inspectLine = [join(root, 'dist', 'cli', 'main.js'), 'inspect', demoModel]
  const start = (...argv: string[]) => spawn(process.execPath, [join(root, 'dist', 'cli', 'main.js'), ...argv])
  const ended = (child: ReturnType<typeof start>) =>
    new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)))

  it.skipIf(process.platform !== 'linux')('reports output that cannot be written, without a stack', async () => {
    const child = spawn('sh', ['-c', `exec "$0" "$@" > /dev/full`, process.execPath, ...inspectLine])
    let said = ''
    child.stderr.on('data', (text) => {
      said += text
    })
    const [code] = await once(child, 'close')
    expect({ code, said }).toEqual({ code: 1, said: expect.stringMatching(/^billfish: .* ENOSPC[^\n]*\n$/) })
  })

  it('goes on when nobody reads its standard error', async () => {
    const child = start('generate', demoModel, 'Hi', '-n', '2')
    child.stderr.destroy()
    child.stdout.resume()
    expect((await once(child, 'close'))[0]).toBe(0)
  })

  it('ends with 130 on SIGINT while generating', async () => {
    const child = start('generate', demoModel, '--chat', 'Tell me a story.', '--ignore-eos', '--max-new-tokens', '900')
    child.stdout.once('data', () => child.kill('SIGINT'))
    expect(await ended(child)).toBe(130)
  })

  it('ends quietly when its reader goes away', async () => {
    const child = start('inspect', demoModel, '--tensors')
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    child.stdout.destroy()
    expect(await ended(child)).toBe(0)
    expect(stderr).toBe('')
  })
})

describe('summarizeModules', () => {
  it('joins layers that follow one another', () => {
    expect(summarizeModules(['model.embed_tokens', 'model.layers.0', 'model.layers.1', 'model.norm'])).toBe(
      'embed_tokens, layers 0-1, norm',
    )
    expect(summarizeModules(['transformer.h.3', 'transformer.h.5', 'transformer.h.6'])).toBe('h 3, h 5-6')
  })

  it('joins their experts apart from them', () => {
    const experts = [0, 1, 3].map((layer) => `model.layers.${layer}.mlp.experts`)
    expect(summarizeModules(['model.layers.2', ...experts])).toBe(
      'layers 2, experts of layers 0-1, experts of layers 3',
    )
  })
})
