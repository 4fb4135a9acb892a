import { resolve } from 'node:path'
import type { Command } from 'commander'
import { openCheckpoint } from '../checkpoint/checkpoint'
import { type Devices, devices } from '../devices'
import { BillfishError } from '../errors'
import type { Model } from '../model'
import { createModel } from '../models/registry'
import { layerSplit } from '../placement/device-map'
import { statistics, streamAnswer } from './answer'
import { formatBytes, formatTable, modulesByDevice, summarizeModules } from './format'
import { loadWithProgress } from './load'
import { abortable, printJson, type Terminal } from './terminal'

/** From dist/cli and src/cli alike. */
const DEMO_MODEL = resolve(__dirname, '..', '..', 'examples', 'demo-model')
const QUESTION = 'Why pad a weight matrix?'

export function addDemoCommand(program: Command, terminal: Terminal): void {
  program
    .command('demo')
    .description('Answer a question with the small chat model of the package, split over two devices')
    .argument('[question...]', 'what to ask', [])
    .option('--json', 'print JSON, and nothing else, to standard output')
    .addHelpText(
      'after',
      `
The model knows very little: sums, capitals, spelling, short stories, and how models like it are run.

Examples:
  billfish demo
  billfish demo What is 17 plus 25?
  billfish demo "Tell me a story about a fox and a lantern."`,
    )
    .action((words: readonly string[], options: { readonly json?: boolean }) =>
      abortable(terminal, (signal) => demo(terminal, words.join(' ') || QUESTION, options.json === true, signal)),
    )
}

async function demo(terminal: Terminal, question: string, json: boolean, signal: AbortSignal): Promise<void> {
  await using model = await loadOverDevices(terminal, json, signal)
  const messages = [{ role: 'user', content: question }]
  if (json) {
    const result = await model.generate(messages, { signal }).result()
    printJson(terminal, { question, ...result, deviceMap: model.deviceMap, memory: model.memory() })
    return
  }
  terminal.stdout.write(`${placementTable(model)}\n> ${question}\n\n`)
  const result = await streamAnswer(terminal, model, messages, { signal })
  terminal.stdout.write(`\n${statistics(result)}`)
}

/** Loads over the CUDA devices, or over two CPU devices where there is none that can run a model. */
async function loadOverDevices(terminal: Terminal, json: boolean, signal: AbortSignal): Promise<Model> {
  const checkpoint = await openCheckpoint(DEMO_MODEL, { signal })
  const { shape, names } = createModel(checkpoint.config, checkpoint)
  const load = (targets: readonly string[]) =>
    loadWithProgress(terminal, DEMO_MODEL, layerSplit(targets, shape.layers, names), { dtype: 'auto', json }, signal)
  const cuda = cudaDevices(devices())
  if (cuda.length > 0) {
    try {
      return await load(cuda)
    } catch (error) {
      if (!(error instanceof BillfishError) || error.code !== 'DEVICE_NOT_FOUND') throw error
      terminal.stderr.write(`${error.message}\nGoing on with cpu:0 and cpu:1.\n\n`)
    }
  }
  return load(['cpu:0', 'cpu:1'])
}

function cudaDevices({ devices }: Devices): string[] {
  return devices.filter(({ kind }) => kind === 'cuda').map(({ device }) => device)
}

/** Which modules sit where, and what they take. */
function placementTable(model: Model): string {
  const modules = modulesByDevice(model.deviceMap)
  const rows = model
    .memory()
    .map(({ device, weights, kvCache, buffers }) => [
      device,
      summarizeModules(modules.get(device) ?? []),
      formatBytes(weights),
      formatBytes(kvCache),
      formatBytes(buffers),
    ])
  return formatTable([['Device', 'Modules', 'Weights', 'KV cache', 'Buffers'], ...rows], 'llrrr')
}
