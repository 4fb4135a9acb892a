import { type Command, InvalidArgumentError, Option } from 'commander'
import { pino } from 'pino'
import { REASONING_FORMAT_NAMES, type ReasoningFormat, TOOL_FORMAT_NAMES, type ToolFormat } from '../chat/formats'
import { isObject } from '../checkpoint/json'
import type { Model } from '../model'
import { createServer } from '../server/server'

import { addLoadingOptions, type LoadingOptions, loadForCommand } from './load'
import { namedDirectories } from './named-directories'
import { wholeNumber } from './options'
import { abortable, printJson, type Terminal } from './terminal'

interface Options extends LoadingOptions {
  readonly host: string
  readonly port: number
  readonly servedModelName?: readonly string[]
  readonly apiKey?: readonly string[]
  readonly maxWaiting: number
  readonly requestTimeout: number
  readonly stallTimeout: number
  readonly allowedOrigins?: readonly string[]
  readonly page: boolean
  readonly logRequests: boolean
  readonly drainTimeout: number
  readonly toolCallParser?: ToolFormat
  readonly reasoningParser?: ReasoningFormat
  readonly defaultChatTemplateKwargs?: Record<string, unknown>
}

/** vLLM's switches for what this server does anyway. */
const ALWAYS_ON = [
  '--enable-auto-tool-choice',
  '--enable-chunked-prefill',
  '--enable-prompt-tokens-details',
  '--enable-request-id-headers',
]

export function addServeCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('serve')
    .description("Serve models over HTTP, for OpenAI's clients")
    .argument('<directories...>', 'checkpoint directories, or models on the Hugging Face Hub; NAME=DIRECTORY names one')
    .option('--host <address>', 'where to listen: 0.0.0.0 for all networks', '127.0.0.1')
    .option('--port <number>', 'the port, or 0 for any that is free', wholeNumber(0, 65_535), 8000)
    .option('--served-model-name <names...>', "the model's names in requests (default: the directory's name)")
    .option('--api-key <keys...>', 'keys of which every request must bring one (default: BILLFISH_API_KEY)')
    .option(
      '--max-waiting <count>',
      'sequences that may wait for their turn before requests get the status 429',
      wholeNumber(1, 1_000_000),
      256,
    )
    .option(
      '--request-timeout <seconds>',
      'how long a request may take; 0 for as long as it takes',
      wholeNumber(0, 86_400),
      0,
    )
    .option(
      '--stall-timeout <seconds>',
      'how long a client may read nothing of its stream; 0 for any time',
      wholeNumber(0, 86_400),
      60,
    )
    .option('--allowed-origins <origins...>', 'where web pages may come from that use the server: * for anywhere')
    .option('--no-page', 'serve no page at / that shows what models and devices are doing')
    .addOption(new Option('--log-requests', 'the default').default(true).hideHelp())
    .option('--no-log-requests', 'do not log a line of JSON for each request on standard error')
    .option(
      '--drain-timeout <seconds>',
      'how long running requests may take after Ctrl-C or SIGTERM',
      wholeNumber(0, 86_400),
      30,
    )
    .addOption(
      new Option(
        '--tool-call-parser <format>',
        'how the model writes tool calls (default: as its chat template shows)',
      ).choices(TOOL_FORMAT_NAMES),
    )
    .addOption(
      new Option(
        '--reasoning-parser <format>',
        'how the model writes its reasoning (default: as its chat template shows)',
      ).choices(REASONING_FORMAT_NAMES),
    )
    .option('--chat-template <template>', "a Jinja file, or a template, instead of the checkpoint's")
    .option(
      '--default-chat-template-kwargs <json>',
      'variables of the chat template for requests that do not set them: {"enable_thinking": false}',
      variables,
    )
  for (const flag of ALWAYS_ON) command.addOption(new Option(flag, "vLLM's switch for what is always on").hideHelp())
  addLoadingOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  billfish serve ./Qwen2.5-7B-Instruct-GPTQ-Int4
  billfish serve chat=./Qwen3-8B-AWQ embed=./Qwen3-Embedding-0.6B
  billfish serve ./Qwen3-30B-A3B --served-model-name qwen3 --port 8080 --tensor-parallel-size 2
  curl http://127.0.0.1:8000/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}'`,
    )
    .action((directories: string[], options: Options) => serve(terminal, directories, options))
}

async function serve(terminal: Terminal, directories: readonly string[], options: Options): Promise<void> {
  const named = await namedDirectories(directories, options.servedModelName)
  const models: (readonly [string, Model])[] = []
  try {
    // One after the other: a plan sees the memory that the ones before it left.
    for (const { names, directory } of named) {
      const model = await abortable(terminal, (signal) => loadForCommand(terminal, directory, options, signal))
      models.push(...names.map((name) => [name, model] as const))
    }
    await serveModels(terminal, Object.fromEntries(models), options)
  } finally {
    await Promise.all(models.map(([, model]) => model.dispose()))
  }
}

async function serveModels(
  terminal: Terminal,
  models: Readonly<Record<string, Model>>,
  options: Options,
): Promise<void> {
  const names = Object.keys(models)
  const given = options.apiKey ?? process.env.BILLFISH_API_KEY?.split(',') ?? []
  const apiKeys = given.filter((key) => key !== '')
  const server = await createServer(models, {
    host: options.host,
    port: options.port,
    apiKeys,
    maxWaiting: options.maxWaiting,
    requestTimeout: options.requestTimeout * 1000,
    stallTimeout: options.stallTimeout * 1000,
    corsOrigins: options.allowedOrigins,
    page: options.page,
    logger: options.logRequests ? pino({ base: null }, terminal.stderr) : undefined,
    toolFormat: options.toolCallParser,
    reasoningFormat: options.reasoningParser,
    templateVariables: options.defaultChatTemplateKwargs,
    drainTimeout: options.drainTimeout * 1000,
  })
  if (options.json) printJson(terminal, { url: server.url, models: names })
  else if (!options.quiet) {
    const page = options.page ? `, with a page at ${server.url}` : ''
    terminal.stderr.write(`Serving ${names.join(', ')} at ${server.url}/v1${page}; Ctrl-C stops.\n`)
  }
  if (apiKeys.length === 0 && !isLoopback(options.host)) {
    terminal.stderr.write(`Anyone who reaches ${options.host} can use it: ask for a key with --api-key.\n`)
  }
  await new Promise<void>((stop) => {
    const remove = terminal.onInterrupt(() => {
      remove() // a second interrupt ends the process
      stop()
    })
  })
  await server.close()
}

function variables(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
  } catch {
    // said below
  }
  throw new InvalidArgumentError('It must be a JSON object, such as {"enable_thinking": false}.')
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}
