/**
 * ik_llama.cpp, measured by its own llama-bench: a program that the user has built and names. It reads the same GGUF file
 * as llama.cpp and is asked for the same shapes: a prompt from an empty cache, and decoding after a short prompt.
 */
import { spawnSync } from 'node:child_process'

/** What is tried, and the fastest kept for each measurement: flash attention, and repacking the weights at load. */
const settings = [false, true].flatMap((flashAttention) => [false, true].map((repack) => ({ flashAttention, repack })))

/** One object a test of llama-bench's JSON, which may stand behind lines of a log. */
function parse(program, { status, signal, stdout, stderr, error }) {
  const complaint = `${program} ${error ? `cannot be run: ${error.message}` : `exited with ${signal ?? status}`}`
  if (status !== 0) throw new Error(`${complaint}\n${(stderr ?? '').slice(-1000)}`.trim())
  const start = stdout.search(/^\[\s*$/m)
  try {
    return JSON.parse(stdout.slice(start))
  } catch {
    throw new Error(`${program} -o json printed no JSON: ${stdout.slice(0, 200)}`)
  }
}

export class IkLlamaBench {
  #program
  #file
  #shape
  #threads
  /** The settings of each measurement, once `chooseSettings` has run. */
  settings = {}
  version = ''

  /**
   * @param {string} program path of ik_llama.cpp's llama-bench
   * @param {string} file the GGUF file
   * @param {{ prefill: number, prompt: number, decode: number }} shape tokens of the prompt that is timed, of the prompt
   *   before decoding, and decoded
   * @param {number} threads
   */
  constructor(program, file, shape, threads) {
    this.#program = program
    this.#file = file
    this.#shape = shape
    this.#threads = threads
  }

  /** Tokens per second. @param {'prefill' | 'decode'} method */
  measure(method, { flashAttention, repack } = this.settings[method]) {
    const { prefill, prompt, decode } = this.#shape
    const tokens =
      method === 'prefill' ? ['-p', `${prefill}`, '-n', '0'] : ['-p', '0', '-n', '0', '-gp', `${prompt},${decode}`]
    const options = ['-t', `${this.#threads}`, '-fa', flashAttention ? '1' : '0', '-rtr', repack ? '1' : '0']
    const args = ['-m', this.#file, '-o', 'json', '-r', '1', '-ngl', '0', ...options, ...tokens]
    const run = spawnSync(this.#program, args, { encoding: 'utf8', maxBuffer: 2 ** 26 })
    const tests = parse(this.#program, run)
    const wanted = method === 'prefill' ? [prefill, 0] : [prompt, decode]
    const test = tests.find(({ n_prompt, n_gen }) => n_prompt === wanted[0] && n_gen === wanted[1])
    if (!(test?.avg_ts > 0)) {
      const found = tests.map(({ n_prompt, n_gen, avg_ts }) => `${n_prompt}+${n_gen}: ${avg_ts}`)
      throw new Error(`${this.#program} measured no ${wanted.join('+')} tokens, but ${found.join(', ') || 'nothing'}`)
    }
    this.version = `build ${test.build_number} (${test.build_commit})`
    return test.avg_ts
  }

  /** Keeps the fastest settings of each measurement. */
  chooseSettings() {
    for (const method of ['prefill', 'decode']) {
      const tried = settings.map((candidate) => ({ candidate, speed: this.measure(method, candidate) }))
      tried.sort((a, b) => b.speed - a.speed)
      this.settings[method] = tried[0].candidate
    }
  }
}
