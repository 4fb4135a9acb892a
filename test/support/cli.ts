import { PassThrough, Writable } from 'node:stream'
import { run } from '../../src/cli/program'

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/** Runs a command line in this process. `onStdout` may interrupt it. */
export async function billfish(
  argv: string[],
  {
    stdin = '',
    terminal = false,
    columns = 100,
    onStdout,
  }: { stdin?: string; terminal?: boolean; columns?: number; onStdout?: (interrupt: () => void) => void } = {},
): Promise<Outcome> {
  const texts = { stdout: '', stderr: '' }
  const handlers: (() => void)[] = []
  const capture = (name: 'stdout' | 'stderr') => {
    const write = (chunk: Buffer, _: unknown, done: () => void) => {
      texts[name] += chunk.toString()
      if (name === 'stdout') onStdout?.(() => handlers.at(-1)?.())
      done()
    }
    return Object.assign(new Writable({ write }), { isTTY: terminal, columns })
  }
  const input = new PassThrough()
  input.end(stdin)
  const code = await run(argv, {
    stdin: Object.assign(input, { isTTY: false }),
    stdout: capture('stdout'),
    stderr: capture('stderr'),
    onInterrupt(handler) {
      handlers.push(handler)
      return () => {
        if (handlers.includes(handler)) handlers.splice(handlers.indexOf(handler), 1)
      }
    },
  })
  return { code, ...texts }
}
