import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'

export interface Outcome {
  readonly status: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * Runs a CommonJS program in a child process.
 * @param constants constants of the program besides `loadModel`, as JSON
 */
export function childProgram(
  source: string,
  constants: Readonly<Record<string, unknown>>,
  { nodeOptions = [], env = {} }: { nodeOptions?: readonly string[]; env?: Readonly<Record<string, string>> } = {},
): Outcome {
  const code = [
    `const { loadModel } = require(${JSON.stringify(resolve(__dirname, '../../dist/index.js'))})`,
    ...Object.entries(constants).map(([name, value]) => `const ${name} = ${JSON.stringify(value)}`),
    source,
  ]
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...nodeOptions, '-e', code.join(';\n')], {
    encoding: 'utf8',
    timeout: 50_000,
    env: { ...process.env, ...env },
  })
  return { status, signal, stdout, stderr }
}
