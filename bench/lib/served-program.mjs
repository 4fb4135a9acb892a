/** Servers as processes: started, asked whether they are ready, watched from outside, ended. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from './command-line.mjs'
import { repository } from './machine.mjs'

/** How long a server may take to load its model, and to end. */
const READY_MILLISECONDS = 300_000
const END_MILLISECONDS = 10_000

/** Clock ticks of /proc, a second. */
const TICKS = 100

class ServedProgram {
  name = ''
  url = ''
  /** What it says about itself. */
  version = ''
  #child
  #log = ''

  /** @param {string} program @param {string[]} args @param {'pipe' | 'ignore'} output whether its standard output is read */
  constructor(program, args, output) {
    this.#child = spawn(program, args, { stdio: ['ignore', output, 'pipe'] })
    this.#child.once('error', (error) => {
      this.#log += error.message
    })
    this.#child.stderr?.on('data', (text) => {
      this.#log = (this.#log + text).slice(-2000)
    })
  }

  get output() {
    return this.#child.stdout
  }

  /** Resolves once it answers. @throws Failure with the end of its log if it ends or takes too long */
  async ready() {
    for (const start = performance.now(); performance.now() - start < READY_MILLISECONDS; await sleep(100)) {
      if (this.#child.exitCode !== null || this.#child.pid === undefined) break
      const response = await fetch(`${this.url}/health`).catch(() => undefined)
      if (response?.ok) return
    }
    throw new Failure(`${this.name} did not start:\n${this.#log}`)
  }

  /** Seconds of processor time of its first thread, which is that of Node's event loop. */
  mainThreadSeconds() {
    const { pid } = this.#child
    const fields = readFileSync(`/proc/${pid}/task/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
    return (Number(fields[11]) + Number(fields[12])) / TICKS // user and system time
  }

  async close() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const ended = await Promise.race([exited, sleep(END_MILLISECONDS)])
    if (ended === undefined) this.#child.kill('SIGKILL')
  }
}

/** `billfish serve` of this clone. */
export class BillfishServer extends ServedProgram {
  name = 'billfish'

  /** @param {string} directory @param {{ clients: number, length: number }} sizes sequences at the same time, and their tokens */
  constructor(directory, { clients, length }) {
    const sizes = ['--sequences', `${clients}`, '--context', `${length}`, '--max-waiting', '100000']
    const server = ['serve', directory, '--served-model-name', 'bench', '--port', '0', '--json', '--no-log-requests']
    super(process.execPath, [join(repository, 'dist/cli/main.js'), ...server, '--device-map', 'cpu', ...sizes], 'pipe')
  }

  async ready() {
    for await (const line of createInterface({ input: this.output })) {
      this.url = JSON.parse(line).url
      break
    }
    await super.ready()
  }

  /** How late its event loop came to a timer since it was last asked, 99th percentile, in milliseconds. */
  async eventLoopLag() {
    const text = await (await fetch(`${this.url}/metrics`)).text()
    return Number(/^billfish:event_loop_lag_seconds\{quantile="0.99"\} (\S+)$/m.exec(text)?.[1]) * 1000
  }
}

/** llama.cpp's `llama-server`, as you have built it. */
export class LlamaServer extends ServedProgram {
  name = 'llama-server'

  /** @param {string} program path @param {string} file the GGUF file @param {number} port one that is free */
  constructor(program, file, port, { clients, length, threads }) {
    const sizes = ['-np', `${clients}`, '-c', `${clients * length}`, '-t', `${threads}`, '-tb', `${threads}`]
    // The fillers of random vocabularies are control tokens to it: --special makes them text.
    super(
      program,
      ['-m', file, '--host', '127.0.0.1', '--port', `${port}`, '--special', '--no-webui', ...sizes],
      'ignore',
    )
    this.url = `http://127.0.0.1:${port}`
  }
}

/** A port that nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
