#!/usr/bin/env node
import { EXIT_CODES, run } from './program'
import type { Terminal } from './terminal'

const handlers: (() => void)[] = []
const interruptOr = (exitCode: number) => () => {
  const handler = handlers.at(-1)
  if (handler) handler()
  else process.exit(exitCode)
}
process.on('SIGINT', interruptOr(EXIT_CODES.interrupted))
process.on('SIGTERM', interruptOr(EXIT_CODES.terminated))

// A reader that has seen enough (`billfish inspect ... | head`) is no error; a full disk is one.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT_CODES.ok)
  process.stderr.write(`billfish: Standard output cannot be written: ${error.message}.\n`)
  process.exit(EXIT_CODES.error)
})
process.stderr.on('error', () => {}) // nobody reads what a command says beside its output, which it still owes

const terminal: Terminal = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  onInterrupt(handler) {
    handlers.push(handler)
    return () => {
      const index = handlers.indexOf(handler)
      if (index >= 0) handlers.splice(index, 1)
    }
  },
}

run(process.argv.slice(2), terminal).then((code) => {
  process.exitCode = code
})
