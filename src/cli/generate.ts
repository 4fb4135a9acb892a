import type { Command } from 'commander'
import { BillfishError } from '../errors'
import type { GenerateInput } from '../generation/prompt'
import { statistics, streamAnswer } from './answer'
import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { addSamplingOptions, generateOptions, type SamplingCliOptions } from './options'
import { abortable, printJson, readAll, type Terminal } from './terminal'
import { writeTrace } from './trace'

interface Options extends LoadingOptions, SamplingCliOptions {
  readonly chat?: boolean
  readonly system?: string
  readonly trace?: string
}

export function addGenerateCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('generate')
    .description('Continue a text, or answer one question')
    .argument('<directory>', 'a checkpoint as released on the Hugging Face Hub')
    .argument('[prompt]', 'the text; read from standard input if it is left out')
    .option('--chat', "take the prompt as a user's message and use the checkpoint's chat template")
    .option('--system <text>', 'a system message; implies --chat')
    .option('--trace <file>', 'write when each stage was busy, for ui.perfetto.dev')
  addSamplingOptions(addLoadingOptions(command))
    .addHelpText(
      'after',
      `
Examples:
  billfish generate ./Qwen2.5-7B "Once upon a time" --max-new-tokens 100
  billfish generate ./Qwen2.5-7B-Instruct-GPTQ-Int4 --chat "What is a fjord?" --device-map split:cpu:0,cpu:1
  billfish generate ./model "Once upon a time" --devices cuda:0=20GiB,cuda:1=20GiB --context 4096
  billfish generate ./model --chat --json --seed 7 --temperature 0.8 < question.txt`,
    )
    .action((directory: string, prompt: string | undefined, options: Options) =>
      abortable(terminal, (signal) => generate(terminal, directory, prompt, options, signal)),
    )
}

async function generate(
  terminal: Terminal,
  directory: string,
  prompt: string | undefined,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const text = prompt ?? (await promptFromStdin(terminal))
  await using model = await loadForCommand(terminal, directory, options, signal)
  const input = promptInput(text, options)
  const sampling = generateOptions(options, signal)
  if (options.json) {
    const result = await model.generate(input, sampling).result()
    await writeTrace(options.trace, model)
    printJson(terminal, { ...result, deviceMap: model.deviceMap, memory: model.memory() })
    return
  }
  const result = await streamAnswer(terminal, model, input, sampling)
  await writeTrace(options.trace, model)
  if (!options.quiet) terminal.stderr.write(`\n${statistics(result)}`)
}

async function promptFromStdin({ stdin }: Terminal): Promise<string> {
  if (stdin.isTTY) {
    throw new BillfishError('INVALID_OPTION', 'There is no prompt: give it behind the directory, or pipe it in.')
  }
  return readAll(stdin)
}

function promptInput(text: string, { chat, system }: Options): GenerateInput {
  if (!chat && system === undefined) return text
  const messages = [{ role: 'user', content: text }]
  return system === undefined ? messages : [{ role: 'system', content: system }, ...messages]
}
