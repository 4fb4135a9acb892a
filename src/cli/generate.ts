import { type Command, Option } from 'commander'
import { BillfishError } from '../common/errors'
import type { ChatMessage } from '../generation/chat-message'
import { statistics, streamAnswer } from './answer'
import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { addSamplingOptions, checkSamplingOptions, generateOptions, type SamplingCliOptions } from './options'
import { abortable, printJson, readAll, type Terminal } from './terminal'
import { checkTraceFile, writeTrace } from './trace'

interface Options extends LoadingOptions, SamplingCliOptions {
  readonly prompt?: string
  readonly chat?: boolean
  readonly raw?: boolean
  readonly system?: string
  readonly trace?: string
}

export function addGenerateCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('generate')
    .description('Answer a prompt, or continue a text')
    .argument('<directory>', 'a checkpoint directory, or a model on the Hugging Face Hub')
    .argument('[prompt]', 'the prompt; read from standard input if omitted')
    .option('-p, --prompt <text>', 'the prompt, as an option')
    .option(
      '--chat',
      "treat the prompt as a user's message and apply the chat template (default if the checkpoint has one)",
    )
    .addOption(
      new Option('--raw', 'continue the prompt as it is, without a chat template').conflicts([
        'chat',
        'system',
        'variable',
      ]),
    )
    .option('--system <text>', 'a system message')
    .option('--trace <file>', 'write a trace of when each stage was busy, for ui.perfetto.dev')
  addSamplingOptions(addLoadingOptions(command))
    .addHelpText(
      'after',
      `
Examples:
  billfish generate ./Qwen2.5-7B-Instruct-GPTQ-Int4 "What is a fjord?"
  billfish generate ./Qwen2.5-7B "Once upon a time" --raw --max-new-tokens 100
  billfish generate ./model "What is a fjord?" --devices cuda:0=20GiB,cuda:1=20GiB
  billfish generate ./model --json --seed 7 --temperature 0.8 < question.txt`,
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
  if (prompt !== undefined && options.prompt !== undefined) {
    throw new BillfishError('INVALID_OPTION', 'The prompt is given twice: as an argument and as --prompt. Give one.')
  }
  checkSamplingOptions(options, options.json)
  await checkTraceFile(options.trace)
  const text = prompt ?? options.prompt ?? (await promptFromStdin(terminal))
  if (text === '') {
    throw new BillfishError('INVALID_OPTION', 'The prompt is empty: give it behind the directory, or pipe it in.')
  }
  await using model = await loadForCommand(terminal, directory, options, signal)
  const chats = !options.raw && (options.chat || options.system !== undefined || model.hasChatTemplate)
  const input = chats ? messages(text, options.system) : text
  if (chats && !options.chat && !options.quiet && !options.json) {
    terminal.stderr.write('Answering through the chat template; --raw continues the text as it is.\n\n')
  }
  const sampling = generateOptions(options, signal)
  if (options.json) {
    const result = await model.generate(input, sampling).result()
    await writeTrace(options.trace, model)
    printJson(terminal, { ...result, chatTemplate: chats, deviceMap: model.deviceMap, memory: model.memory() })
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

function messages(text: string, system: string | undefined): ChatMessage[] {
  const asked = { role: 'user', content: text }
  return system === undefined ? [asked] : [{ role: 'system', content: system }, asked]
}
