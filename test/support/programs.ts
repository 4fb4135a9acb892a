import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { run } from '../../src/cli/program'

/** Runs a command line in this process. `onStdout` may interrupt it. */
export async function billfish(
  argv: string[],
  {
    stdin = '',
    terminal = false,
    columns = 100,
    onStdout,
  }: { stdin?: string; terminal?: boolean; columns?: number; onStdout?: (interrupt: () => void) => void } = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
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

/**
 * Runs a CommonJS program in a child process.
 * @param constants constants of the program besides `devices` and `loadModel`, as JSON
 */
export function childProgram(
  source: string,
  constants: Readonly<Record<string, unknown>>,
  { nodeOptions = [], env = {} }: { nodeOptions?: readonly string[]; env?: Readonly<Record<string, string>> } = {},
): Pick<SpawnSyncReturns<string>, 'status' | 'signal' | 'stdout' | 'stderr'> {
  const code = [
    `const { devices, loadModel } = require(${JSON.stringify(resolve(__dirname, '../../dist/index.js'))})`,
    ...Object.entries(constants).map(([name, value]) => `const ${name} = ${JSON.stringify(value)}`),
    source,
  ]
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...nodeOptions, '-e', code.join(';\n')], {
    encoding: 'utf8',
    timeout: 50_000,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, ...env },
  })
  return { status, signal, stdout, stderr }
}
