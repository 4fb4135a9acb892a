/** vLLM's command line, flag by flag. */
import { join } from 'node:path'
import { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { chatTemplateText } from '../../../src/cli/chat-template'
import { addOtherSpellings } from '../../../src/cli/other-spellings'
import { addServeCommand } from '../../../src/cli/serve'
import type { Terminal } from '../../../src/cli/terminal'
import { gpuBudgets, stageDevices } from '../../../src/cli/vllm-placement'
import { directoryOf } from '../../support/directories'
import { billfish } from '../../support/programs'

const demoModel = join(__dirname, '../../..', 'examples', 'demo-model')

/** What `billfish serve` understands. */
function parsed(...options: string[]): Record<string, unknown> {
  const program = new Command()
  addServeCommand(program, {} as Terminal)
  const [command] = program.commands as [Command]
  addOtherSpellings(command)
  command.exitOverride().configureOutput({ writeErr: () => {} })
  command.parseOptions(options)
  return command.opts()
}

test.each([
  ['--max-model-len 4096', { context: 4096 }],
  ['--max-num-seqs 16', { sequences: 16 }],
  ['--max-num-batched-tokens 512', { maxBatchTokens: 512 }],
  ['--enable-prefix-caching', { prefixCache: true }],
  ['--no-enable-prefix-caching', { prefixCache: false }],
  ['--disable-log-requests', { logRequests: false }],
  ['--no-enable-log-requests', { logRequests: false }],
  ['--enable-log-requests', { logRequests: true }],
  ['', { logRequests: true }],
  ['--gpu-memory-utilization 0.9', { gpuMemoryUtilization: 0.9 }],
  ['--pipeline-parallel-size 2 --tp 4', { pipelineParallelSize: 2, tensorParallelSize: 4 }],
  ['--enable-chunked-prefill --enable-auto-tool-choice', {}],
  [
    '--default-chat-template-kwargs {"enable_thinking":false}',
    { defaultChatTemplateKwargs: { enable_thinking: false } },
  ],
])('%s', (line, expected) => {
  expect(parsed(...line.split(' ').filter((word) => word !== ''))).toMatchObject(expected)
})

test.each([
  ['--gpu-memory-utilization', '0'],
  ['--gpu-memory-utilization', '90'],
  ['--default-chat-template-kwargs', '[]'],
  ['--pipeline-parallel-size', '0'],
])('%s %s is refused', (flag, value) => {
  expect(() => parsed(flag, value)).toThrow(/It must be/)
})

describe('placement', () => {
  test('stages are groups of devices in order', () => {
    expect(stageDevices(2, 2, undefined)).toEqual(['cuda:0,cuda:1', 'cuda:2,cuda:3'])
    expect(stageDevices(2, 1, ['cpu:1', 'cpu:0'])).toEqual(['cpu:1', 'cpu:0'])
    expect(() => stageDevices(2, 2, ['cpu:0', 'cpu:1'])).toThrow(/takes 4 devices, but --devices has 2/)
  })

  test('a share of memory is one of the whole, within what is free', () => {
    const gpus = [
      { device: 'cuda:0', totalBytes: 1000, freeBytes: 950 },
      { device: 'cuda:1', totalBytes: 1000, freeBytes: 300 },
    ]
    expect(gpuBudgets(0.9, gpus)).toEqual({ 'cuda:0': 900, 'cuda:1': 300 })
    expect(() => gpuBudgets(0.9, [])).toThrow(/no usable GPU/)
  })

  test('the stages are those of the plan', async () => {
    const options = ['--devices', 'cpu:0,cpu:1', '--pipeline-parallel-size', '2', '--json']
    const { stdout } = await billfish(['plan', demoModel, ...options])
    const { deviceMap } = JSON.parse(stdout)
    expect([...new Set(Object.values(deviceMap))]).toEqual(['cpu:0', 'cpu:1'])
    const both = await billfish(['plan', demoModel, ...options, '--device-map', 'cpu'])
    expect(both.stderr).toMatch(/both say where layers go/)
  })
})

test('a chat template is a file, or a text', async () => {
  const file = join(directoryOf({ 'own.jinja': '{{ messages[0].content }}' }), 'own.jinja')
  expect(await chatTemplateText(file)).toBe('{{ messages[0].content }}')
  expect(await chatTemplateText('{% if x %}y{% endif %}')).toBe('{% if x %}y{% endif %}')
  await expect(chatTemplateText('missing.jinja')).rejects.toThrow(/no file missing.jinja/)
})
