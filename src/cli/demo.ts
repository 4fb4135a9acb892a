import { resolve } from 'node:path'
import type { Command } from 'commander'
import { BillfishError } from '../common/errors'
import { discoverCudaDevices } from '../devices'
import type { Model } from '../model'
import { statistics, streamAnswer } from './answer'
import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { abortable, printJson, type Terminal } from './terminal'

/** From dist/cli and src/cli alike. */
const DEMO_MODEL = resolve(__dirname, '..', '..', 'examples', 'demo-model')
const QUESTION = 'Why pad a weight matrix?'
const CPU_SPLIT = 'split:cpu:0,cpu:1'

export function addDemoCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('demo')
    .description('Ask the small chat model that comes with billfish, split over two devices')
    .argument('[question...]', `what to ask (default: "${QUESTION}")`)
  addLoadingOptions(command, `equal shares of the CUDA devices that can run a model, or else ${CPU_SPLIT}`)
    .addHelpText(
      'after',
      `
The model knows little: sums, capitals, spelling, short stories, and how models like it are run.

Examples:
  billfish demo
  billfish demo What is 17 plus 25?
  billfish demo "Tell me a story about a fox and a lantern." --devices cpu:0=12MiB,cpu:1=12MiB --sequences 1`,
    )
    .action((words: readonly string[], options: LoadingOptions) =>
      abortable(terminal, (signal) => demo(terminal, words.join(' ') || QUESTION, options, signal)),
    )
}

async function demo(terminal: Terminal, question: string, options: LoadingOptions, signal: AbortSignal): Promise<void> {
  await using model = await loadOverDevices(terminal, options, signal)
  const messages = [{ role: 'user', content: question }]
  if (options.json) {
    const result = await model.generate(messages, { signal }).result()
    printJson(terminal, { question, ...result, deviceMap: model.deviceMap, memory: model.memory() })
    return
  }
  if (!options.quiet) terminal.stdout.write(`> ${question}\n\n`)
  const result = await streamAnswer(terminal, model, messages, { signal })
  if (!options.quiet) terminal.stdout.write(`\n${statistics(result)}`)
}

/** Loads as the options say; without any, over the CUDA devices, or two CPU devices where none can run a model. */
async function loadOverDevices(terminal: Terminal, options: LoadingOptions, signal: AbortSignal): Promise<Model> {
  const load = (defaultMap: string) => loadForCommand(terminal, DEMO_MODEL, options, signal, defaultMap)
  const asked = options.deviceMap ?? options.devices ?? options.maxMemory
  const cuda = await discoverCudaDevices()
  if (asked !== undefined || cuda.length === 0) return load(CPU_SPLIT)
  try {
    return await load(`split:${cuda.map(({ device }) => device).join(',')}`)
  } catch (error) {
    if (!(error instanceof BillfishError) || error.code !== 'DEVICE_NOT_FOUND') throw error
    terminal.stderr.write(`${error.message}\nContinuing on cpu:0 and cpu:1.\n\n`)
    return load(CPU_SPLIT)
  }
}
