import { createInterface } from 'node:readline'
import type { Command } from 'commander'
import { BillfishError } from '../common/errors'
import type { ChatMessage } from '../generation/chat-message'
import type { Model } from '../model'
import { statistics, streamAnswer } from './answer'
import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { addSamplingOptions, checkSamplingOptions, generateOptions, type SamplingCliOptions } from './options'
import { abortable, Interrupted, printJson, type Terminal } from './terminal'

interface Options extends LoadingOptions, SamplingCliOptions {
  readonly system?: string
}

export function addChatCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('chat')
    .description('Chat with a model')
    .argument('<directory>', 'a checkpoint directory, or a model on the Hugging Face Hub')
    .option('--system <text>', 'a system message')
  addSamplingOptions(addLoadingOptions(command))
    .addHelpText(
      'after',
      `
Every line is a message. /reset starts over, /exit or Ctrl-D quits, Ctrl-C stops an answer.

Examples:
  billfish chat ./Qwen2.5-7B-Instruct-GPTQ-Int4 --device-map split:cpu:0,cpu:1
  billfish chat ./Qwen3-8B-AWQ --variable enable_thinking=false --system "Answer in one sentence."
  printf 'Hello\\nWhat did I say?\\n' | billfish chat ./model --json`,
    )
    .action(async (directory: string, options: Options) => {
      checkSamplingOptions(options, options.json)
      await using model = await abortable(terminal, (signal) => loadForCommand(terminal, directory, options, signal))
      await converse(terminal, model, options)
    })
}

async function converse(terminal: Terminal, model: Model, options: Options): Promise<void> {
  const interactive = terminal.stdin.isTTY === true && options.json !== true
  const beginning: ChatMessage[] = options.system === undefined ? [] : [{ role: 'system', content: options.system }]
  let messages = [...beginning]
  const lines = createInterface({
    input: terminal.stdin,
    ...(interactive && { output: terminal.stderr, prompt: '> ', terminal: true }),
  })
  // A terminal in raw mode gives Ctrl-C to readline instead of sending a signal.
  let answering: AbortController | undefined
  let interrupted = false
  const interrupt = () => {
    if (answering) answering.abort()
    else {
      interrupted = true
      lines.close()
    }
  }
  lines.on('SIGINT', interrupt)
  const remove = terminal.onInterrupt(interrupt)
  try {
    if (interactive) lines.prompt()
    for await (const line of lines) {
      const text = line.trim()
      if (text === '/exit') break
      if (text === '/reset') messages = [...beginning]
      else if (text !== '') {
        answering = new AbortController()
        messages = await answer(terminal, model, messages, text, options, answering.signal)
        answering = undefined
      }
      if (interactive) lines.prompt()
    }
  } finally {
    remove()
    lines.close()
  }
  if (interrupted) throw new Interrupted()
}

/** Answers one message. Returns the conversation including both, or without them if the message could not be answered. */
async function answer(
  terminal: Terminal,
  model: Model,
  before: readonly ChatMessage[],
  text: string,
  options: Options,
  signal: AbortSignal,
): Promise<ChatMessage[]> {
  const messages: ChatMessage[] = [...before, { role: 'user', content: text }]
  const sampling = generateOptions(options, signal)
  let said = ''
  try {
    if (options.json) {
      const result = await model.generate(messages, sampling).result()
      printJson(terminal, result)
      said = result.text
    } else {
      const result = await streamAnswer(terminal, model, messages, sampling, (piece) => {
        said += piece
      })
      if (!options.quiet) terminal.stderr.write(`${statistics(result)}`)
    }
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) {
      const refused = error instanceof BillfishError && error.code === 'INVALID_OPTION'
      if (!refused || before.length === 0 || options.json) throw error
      terminal.stderr.write(`${error.message}\n(/reset forgets the conversation and makes room.)\n`)
      return [...before]
    }
  }
  return [...messages, { role: 'assistant', content: said }]
}
