// Runs checks on a GPU that may break: each in a process of its own with a time limit, since a kernel that faults leaves a
// CUDA context that fails everything after it, and one that waits for ever ends only with its process. What fails is run
// again with one feature after the other turned off, which tells a broken kernel from a broken way to launch it.
const { spawn } = require('node:child_process')

/** What to turn off, one at a time and then all together. */
const variants = {
  'without graphs': { BILLFISH_CUDA_GRAPHS: 'off' },
  'without programmatic launches': { BILLFISH_CUDA_PDL: 'off' },
  'without bulk copies': { BILLFISH_CUDA_GEMM: 'staged' },
}
variants['without all three'] = Object.assign({}, ...Object.values(variants))

const keptOutput = 64 * 1024 // characters of a process's output: its beginning and its end

/**
 * @typedef {object} Run
 * @property {'passed' | 'failed' | 'crashed' | 'timed out' | 'skipped'} outcome
 * @property {number} seconds
 * @property {string} output stdout and stderr, of long ones the beginning and the end
 */

/**
 * Runs a command to its end, or to its limit.
 * @returns {Promise<Run>} skipped where its output has a line that begins with "skipped:"
 */
function runOnce([program, ...args], { limit, environment = {}, cwd }) {
  const begun = performance.now()
  return new Promise((resolve) => {
    const output = boundedText(keptOutput)
    // A group of its own: what it has started goes with it.
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      kill(child)
    }, limit * 1000)
    child.stdout.on('data', (data) => output.push(data))
    child.stderr.on('data', (data) => output.push(data))
    const end = (outcome) => {
      clearTimeout(timer)
      resolve({ outcome, seconds: (performance.now() - begun) / 1000, output: output.text() })
    }
    child.on('error', (error) => {
      output.push(`${error.message}\n`)
      end('crashed')
    })
    child.on('close', (code, signal) => {
      if (timedOut) end('timed out')
      else if (signal !== null) {
        output.push(`ended by ${signal}\n`)
        end('crashed')
      } else if (code !== 0) end('failed')
      else end(/^skipped:/m.test(output.text()) ? 'skipped' : 'passed')
    })
  })
}

function kill(child) {
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    child.kill('SIGKILL')
  }
}

/** The beginning and the end of a text that may be endless. */
function boundedText(most) {
  let head = ''
  let tail = ''
  let left = 0
  return {
    push(data) {
      const text = String(data)
      const room = most / 2 - head.length
      head += text.slice(0, room)
      tail += text.slice(Math.max(room, 0))
      if (tail.length > most / 2) {
        left += tail.length - most / 2
        tail = tail.slice(-most / 2)
      }
    },
    text: () => (left === 0 ? head + tail : `${head}\n[... ${left} characters ...]\n${tail}`),
  }
}

/**
 * Runs checks one after the other, whatever becomes of each, and those that fail again in every variant.
 * @param {readonly { name: string, command: readonly string[], limit: number }[]} checks limits in seconds
 * @param {object} options
 * @param {number} options.deadline when to begin no further check, milliseconds since 1970
 * @param {(line: string) => void} options.say
 * @returns one result a check: { name, outcome, seconds, output, variants: { [name]: outcome } }; 'not run' behind the deadline
 */
async function runIsolated(checks, { deadline, say, cwd }) {
  const results = []
  for (const { name, command, limit } of checks) {
    const remaining = () => (deadline - Date.now()) / 1000
    if (remaining() < 1) {
      results.push({ name, outcome: 'not run', seconds: 0, output: '', variants: {} })
      continue
    }
    const run = await runOnce(command, { limit: Math.min(limit, remaining()), cwd })
    const result = { name, ...run, variants: {} }
    results.push(result)
    if (run.outcome === 'passed' || run.outcome === 'skipped') continue
    for (const [variant, environment] of Object.entries(variants)) {
      if (remaining() < 1) break
      const again = await runOnce(command, { limit: Math.min(limit, remaining()), environment, cwd })
      result.variants[variant] = again.outcome
    }
    const heals = Object.entries(result.variants).filter(([, outcome]) => outcome === 'passed')
    const hint = heals.length === 0 ? 'in every variant' : `passes ${heals.map(([variant]) => variant).join(', ')}`
    say(`FAILED ${name}: ${run.outcome}, ${hint}\n${lastLines(run.output, 8)}`)
  }
  const count = (...outcomes) => results.filter(({ outcome }) => outcomes.includes(outcome)).length
  const late = count('not run')
  if (late > 0) say(`not run, since the time was up: ${late}`)
  say(
    `${count('passed')} passed, ${count('failed', 'crashed', 'timed out')} failed, ${count('skipped') + late} skipped`,
  )
  return results
}

function lastLines(text, count) {
  const lines = text.trimEnd().split('\n').slice(-count)
  return lines.map((line) => `    ${line.slice(0, 300)}`).join('\n')
}

module.exports = { runIsolated, runOnce, variants }
