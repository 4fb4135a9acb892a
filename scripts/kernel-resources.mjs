// Parses nvcc's output of -Xptxas -v and its --time table.
import { spawnSync } from 'node:child_process'

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
