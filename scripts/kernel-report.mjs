// Reports what nvcc makes of the kernels: registers, stack, spills and compile time per architecture, the addon's size, and
// how the machine code loads weights and which tensor core instructions it uses. Needs no GPU.
//
//   npm run kernels [-- --markdown FILE] [-- --json FILE]
//
// Builds the addon in build-kernels/ for all release architectures, or those of BILLFISH_CUDA_ARCHITECTURES. Fails if a
// GEMM or attention kernel spills or lacks the instructions it is written for. The machine code is checked if cuobjdump is
// found (on PATH, next to nvcc, or CUOBJDUMP).
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  byFamily,
  columns,
  compileTimes,
  isAttention,
  isGemm,
  kernelResources,
  machineCode,
  unexpected,
} from './kernel-code.mjs'
import { output, root } from './steps.mjs'

const { values: files } = parseArgs({ options: { markdown: { type: 'string' }, json: { type: 'string' } } })
const folder = join(root, 'build-kernels')
const phases = join(folder, 'phases.csv')

const log = build()
const resources = kernelResources(log)
const times = compileTimes(readFileSync(phases, 'utf8'))
const addon = join(folder, 'Release', 'billfish.node')
const stripped = strippedBytes(addon)
const cuobjdump = findCuobjdump()
const code = cuobjdump ? await machineCode(cuobjdump, addon) : []
if (!cuobjdump) console.log('The machine code was not checked: cuobjdump was not found. Set CUOBJDUMP to its path.')

const faults = [
  ...resources
    .filter(({ family, spills }) => (isGemm(family) || isAttention(family)) && spills > 0)
    .map(({ name, architecture, spills }) => `${name} spills ${spills} bytes on ${architecture}`),
  ...unexpected(code),
]
const markdown = report()
console.log(markdown)
if (files.markdown) writeFileSync(files.markdown, markdown)
if (files.json)
  writeFileSync(files.json, `${JSON.stringify({ addonBytes: stripped, times, resources, code }, null, 1)}\n`)
for (const fault of faults) console.error(`billfish: ${fault}`)
console.log(`${resources.length + code.length - faults.length} passed, ${faults.length} failed`)
process.exit(faults.length > 0 ? 1 : 0)

/** Builds from scratch, so that every source is compiled and timed. Returns the compilers' output. */
function build() {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const cmakeJs = join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js')
  const options = {
    BILLFISH_CUDA: 'on',
    BILLFISH_CUDA_ARCHITECTURES: process.env.BILLFISH_CUDA_ARCHITECTURES || 'release',
    CMAKE_CUDA_FLAGS: `-Xptxas -v --time ${phases}`,
  }
  const given = Object.entries(options).map(([name, value]) => `--CD${name}=${value}`)
  const args = [cmakeJs, 'build', '-O', folder, '--parallel', String(availableParallelism()), ...given]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
    env: { ...process.env, CMAKE_CUDA_COMPILER_LAUNCHER: '' },
  })
  if (status === 0) return stdout + stderr
  console.error(`${stdout}${stderr}`.slice(-8000))
  console.error('billfish: the addon could not be built with CUDA')
  process.exit(1)
}

/** Size of the addon as released, without symbols, in bytes. */
function strippedBytes(path) {
  const copy = join(folder, 'stripped.node')
  if (output('strip', ['--strip-unneeded', '-o', copy, path]) === null) return statSync(path).size
  return statSync(copy).size
}

function findCuobjdump() {
  const nvcc = /^CMAKE_CUDA_COMPILER:.*=(.*)$/m.exec(readFileSync(join(folder, 'CMakeCache.txt'), 'utf8'))?.[1] ?? ''
  const candidates = [process.env.CUOBJDUMP, 'cuobjdump', join(dirname(nvcc), 'cuobjdump')]
  return candidates.find((path) => path && (path === 'cuobjdump' || existsSync(path)) && output(path, ['--version']))
}

function report() {
  const architectures = [...new Set(resources.map(({ architecture }) => architecture))].sort(byNumber)
  const families = [...new Set(resources.map(({ family }) => family))].sort()
  const rows = families.map((family) => [
    family,
    ...architectures.map((architecture) => {
      const own = resources.filter((kernel) => kernel.family === family && kernel.architecture === architecture)
      if (own.length === 0) return '-'
      const registers = own.map((kernel) => kernel.registers)
      const [low, high] = [Math.min(...registers), Math.max(...registers)]
      const spills = Math.max(...own.map((kernel) => kernel.spills))
      return `${low === high ? low : `${low}-${high}`}${spills > 0 ? `, spills ${spills}` : ''}`
    }),
  ])
  const seconds = ['compiling, s of one core', ...architectures.map((name) => (times[name] ?? 0).toFixed(0))]
  const lines = [
    `Registers per thread (minimum and maximum of a family), and bytes spilled if any; ${resources.length} kernels:`,
    '',
    ...table(['kernels', ...architectures], [...rows, seconds]),
    '',
    `Another ${(times.all ?? 0).toFixed(0)} s of compile time belong to no single architecture: parsing the sources, and host code. The addon for all of`,
    `these architectures, without symbols: ${(stripped / 2 ** 20).toFixed(1)} MiB.`,
  ]
  if (code.length > 0) {
    const rows = byFamily(code).map((row) => [row.family, row.architecture, row.kernels, ...row.counts])
    lines.push('', 'Instructions in the machine code, summed over all kernels of a family:', '')
    lines.push(...table(['kernels', 'architecture', 'how many', ...columns], rows))
  }
  return `${lines.join('\n')}\n`
}

function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)]
}

function byNumber(a, b) {
  return Number.parseInt(a.slice(3), 10) - Number.parseInt(b.slice(3), 10)
}
