// Reads what nvcc makes of the kernels: its output of -Xptxas -v, its --time table, and cuobjdump's machine code.
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'

/**
 * The kernels of a build, one entry per architecture.
 * @returns {{ name: string, family: string, architecture: string, registers: number, stack: number, spills: number }[]}
 *   stack and spills in bytes per thread
 */
export function kernelResources(log) {
  const kernels = []
  let current
  for (const line of demangled(log).split('\n')) {
    const entry = /Compiling entry function '(.*)' for '(sm_\w+)'/.exec(line)
    if (entry) {
      const name = kernelName(entry[1])
      current = { name, family: name.replace(/<.*/, ''), architecture: entry[2] }
      kernels.push(current)
      continue
    }
    const memory = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    if (memory && current) Object.assign(current, { stack: Number(memory[1]), spills: Number(memory[2]) })
    const used = /Used (\d+) registers/.exec(line)
    if (used && current) Object.assign(current, { registers: Number(used[1]) })
  }
  const incomplete = kernels.find(({ registers, spills }) => registers === undefined || spills === undefined)
  if (incomplete) throw new Error(`ptxas did not say what ${incomplete.name} on ${incomplete.architecture} uses`)
  return kernels
}

/** `Gemm<half, 4, ...>` of `void billfish::cuda::run_kernel<billfish::cuda::Gemm<__half, 4, ...> >(...)`. */
export function kernelName(signature) {
  const name = /run_kernel<(.*?)>\(/.exec(signature)?.[1] ?? signature
  return name
    .replaceAll('billfish::cuda::', '')
    .replaceAll('(anonymous namespace)::', '')
    .replaceAll('__half', 'half')
    .replaceAll('__nv_bfloat16', 'bfloat16')
    .trim()
}

/** Rewrites C++ names in a text to the form used in sources. */
export function demangled(text) {
  const { stdout, status } = spawnSync('c++filt', { input: text, encoding: 'utf8', maxBuffer: 2 ** 30 })
  if (status !== 0) throw new Error('c++filt is needed, which comes with binutils')
  return stdout
}

/** Core seconds per architecture, and under `all` for what is done once for all of them. */
export function compileTimes(csv) {
  const ofOneArchitecture = ['gcc (preprocessing 1)', 'cicc', 'ptxas']
  const seconds = {}
  for (const line of csv.split('\n').slice(1)) {
    const [, phase, , , target = '', , milliseconds] = line.split(' , ').map((cell) => cell.trim())
    if (!(Number(milliseconds) > 0)) continue
    const key = ofOneArchitecture.includes(phase) && target ? target.replace('compute_', 'sm_') : 'all'
    seconds[key] = (seconds[key] ?? 0) + Number(milliseconds) / 1000
  }
  return seconds
}

/** The instructions counted: heading, and pattern of the mnemonic. */
const COUNTED = [
  ['HMMA', /^HMMA\./],
  ['HGMMA', /^HGMMA\./],
  ['LDGSTS of 16 bytes', /^LDGSTS\..*\b128\b/],
  ['LDG of 16 bytes', /^LDG\..*\b128\b/],
  ['bulk copies', /^UBLKCP/],
  ['LDSM', /^LDSM\./],
  ['local memory', /^(LDL|STL)\b/],
]
export const columns = COUNTED.map(([heading]) => heading)

/**
 * Counts by kernel and architecture.
 * @returns {Promise<{ name: string, family: string, architecture: string, counts: number[] }[]>} counts as `columns`
 */
export async function machineCode(cuobjdump, binary) {
  const child = spawn(cuobjdump, ['-sass', binary], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  const kernels = []
  let architecture
  let current
  for await (const line of createInterface({ input: child.stdout })) {
    const [, target] = /^\s*code for (sm_\w+)/.exec(line) ?? []
    if (target) architecture = target
    const [, symbol] = /^\s*Function : (\S+)/.exec(line) ?? []
    if (symbol) {
      current = { symbol, architecture, counts: COUNTED.map(() => 0) }
      kernels.push(current)
      continue
    }
    const [, mnemonic] = /^\s*\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)/.exec(line) ?? []
    if (!mnemonic || !current) continue
    for (const [i, [, pattern]] of COUNTED.entries()) if (pattern.test(mnemonic)) current.counts[i] += 1
  }
  if ((await ended) !== 0) throw new Error(`${cuobjdump} failed`)
  const names = demangled(kernels.map(({ symbol }) => symbol).join('\n')).split('\n')
  return kernels.map(({ architecture, counts }, i) => {
    const name = kernelName(names[i])
    return { name, family: name.replace(/<.*/, ''), architecture, counts }
  })
}

/** Sums over the kernels of a family that use tensor cores or copy weights, by architecture. */
export function byFamily(kernels) {
  const sums = new Map()
  for (const { family, architecture, counts } of kernels) {
    const key = `${family} ${architecture}`
    const sum = sums.get(key) ?? { family, architecture, kernels: 0, counts: COUNTED.map(() => 0) }
    sum.kernels += 1
    for (const [i, count] of counts.entries()) sum.counts[i] += count
    sums.set(key, sum)
  }
  return [...sums.values()].filter(({ family }) => isGemm(family) || isAttention(family) || isChunked(family))
}

/** Describes the kernels whose machine code lacks the instructions they are written for. */
export function unexpected(kernels) {
  const at = (kernel, heading) => kernel.counts[columns.indexOf(heading)]
  return kernels.flatMap((kernel) => {
    const { name, family, architecture } = kernel
    const usesNone = at(kernel, 'HMMA') + at(kernel, 'HGMMA') === 0
    if (isChunked(family) && usesNone) return [`${name} on ${architecture} uses no tensor cores`]
    if (!isGemm(family) && !isAttention(family)) return []
    if (isEmpty(family, architecture)) return []
    const lacks = []
    if (isGemm(family) && usesNone) lacks.push('uses no tensor cores')
    if (isGemm(family) && at(kernel, 'LDGSTS of 16 bytes') + at(kernel, 'bulk copies') === 0) {
      lacks.push('does not copy weights 16 bytes at a time')
    }
    if (at(kernel, 'local memory') > 0) lacks.push('uses local memory')
    return lacks.map((what) => `${name} on ${architecture} ${what}`)
  })
}

/** Register-bound kernels: spills would be reloaded in the inner loop. */
export function isGemm(family) {
  return /^Gemm|Gemm$/.test(family)
}

/** Kernels built on bulk copies are empty for architectures without them. */
function isEmpty(family, architecture) {
  return family === 'BulkGemm' && Number.parseInt(architecture.replace('sm_', ''), 10) < 90
}

/** The delta rule of prompts, which may keep a few registers in local memory between its products. */
function isChunked(family) {
  return family === 'ChunkedDeltaRule'
}

export function isAttention(family) {
  return /Attention|Decode|Prefill/.test(family)
}
