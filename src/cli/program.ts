import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command, CommanderError } from 'commander'
import { BillfishError } from '../common/errors'
import { addBenchCommand } from './bench'
import { addChatCommand } from './chat'
import { addDemoCommand } from './demo'
import { addDevicesCommand } from './devices'
import { addDownloadCommand } from './download'
import { addGenerateCommand } from './generate'
import { addInspectCommand } from './inspect'
import { addOtherSpellings, explainUnknownOptions } from './other-spellings'
import { addPadCommand } from './pad'
import { addPlanCommand } from './plan'
import { addServeCommand } from './serve'
import { Interrupted, type Terminal, Unsuccessful } from './terminal'

const HELP_HINT = '(--help tells more)'

/** Exit codes, as shells and scripts expect them. */
export const EXIT_CODES = { ok: 0, error: 1, usage: 2, interrupted: 130, terminated: 143 } as const

/**
 * Runs the command line `billfish ...argv`. Errors are written to standard error, as JSON where `--json` was given.
 * @returns the exit code: 0, 1 for an error, 2 for a wrong command line or option, 130 after an interrupt
 */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  const json = argv.includes('--json')
  const fail = ({ code, message }: { code: string; message: string }) =>
    terminal.stderr.write(json ? `${JSON.stringify({ error: { code, message } })}\n` : `billfish: ${message}\n`)
  let wrong = '' // Commander's message
  const tell = json ? (text: string) => (wrong += text) : (text: string) => terminal.stderr.write(text)
  try {
    await createProgram(terminal, argv, tell).parseAsync(argv, { from: 'user' })
    return EXIT_CODES.ok
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT_CODES.ok
      if (json)
        fail({
          code: 'INVALID_OPTION',
          message: wrong
            .replace(/^error: /, '')
            .replace(HELP_HINT, '')
            .trim()
            .replaceAll('\n', ' '),
        })
      return EXIT_CODES.usage
    }
    if (error instanceof Interrupted) return EXIT_CODES.interrupted
    if (error instanceof Unsuccessful) return EXIT_CODES.error
    const described = describe(error)
    fail(described)
    return described.code === 'INVALID_OPTION' ? EXIT_CODES.usage : EXIT_CODES.error
  }
}

/** @param tell called with what is wrong with the command line */
function createProgram(terminal: Terminal, argv: readonly string[], tell: (text: string) => void): Command {
  const { version } = JSON.parse(readFileSync(resolve(__dirname, '..', '..', 'package.json'), 'utf8')) as {
    version: string
  }
  const program = new Command('billfish')
    .description('Run quantized language models (GPTQ, AWQ, compressed-tensors), split over your devices')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: tell,
    })
    .showHelpAfterError(HELP_HINT)
    .addHelpText(
      'after',
      `
Examples:
  billfish demo
  billfish inspect ./Qwen2.5-7B-Instruct-GPTQ-Int4
  billfish chat ./Qwen2.5-7B-Instruct-GPTQ-Int4 --device-map split:cpu:0,cpu:1

Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted.`,
    )
  addGenerateCommand(program, terminal)
  addChatCommand(program, terminal)
  addServeCommand(program, terminal)
  addDownloadCommand(program, terminal)
  addInspectCommand(program, terminal)
  addPlanCommand(program, terminal)
  addPadCommand(program, terminal)
  addDevicesCommand(program, terminal)
  addBenchCommand(program, terminal)
  addDemoCommand(program, terminal)
  for (const command of allCommands(program)) {
    addOtherSpellings(command)
    explainUnknownOptions(command, argv)
  }
  return program
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)]
}

/** Describes an error for people. Anything but a BillfishError is a bug in billfish and includes its stack. */
function describe(error: unknown): { code: string; message: string } {
  if (error instanceof BillfishError) return { code: error.code, message: error.message }
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return { code: error.code, message: error.message }
  }
  return { code: 'INTERNAL', message: error instanceof Error ? (error.stack ?? error.message) : String(error) }
}
