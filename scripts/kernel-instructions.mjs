// Counts the instructions that matter in the kernels' machine code, from cuobjdump.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { demangled, kernelName } from './kernel-resources.mjs'

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
  return [...sums.values()].filter(({ family }) => isGemm(family) || isAttention(family))
}

/** Describes the kernels whose machine code lacks the instructions they are written for. */
export function unexpected(kernels) {
  const at = (kernel, heading) => kernel.counts[columns.indexOf(heading)]
  return kernels.flatMap((kernel) => {
    const { name, family, architecture } = kernel
    if (!isGemm(family) && !isAttention(family)) return []
    if (isEmpty(family, architecture)) return []
    const lacks = []
    if (isGemm(family) && at(kernel, 'HMMA') + at(kernel, 'HGMMA') === 0) lacks.push('uses no tensor cores')
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

export function isAttention(family) {
  return /Attention|Decode|Prefill/.test(family)
}
