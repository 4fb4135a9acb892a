// Makes build-gpu/billfish-gpu.tar.xz: everything the GPU tests and benchmarks need on a Linux x64 machine with only an
// NVIDIA driver (no Node, no CUDA toolkit, no network). There:
//
//   tar xf billfish-gpu.tar.xz && cd billfish-gpu && ./run first 1     (docs/gpu-first-run.md)
//
// It contains this Node binary, the addon and the native tests with the CUDA runtime linked in, the compiled JavaScript
// with its packages, the fixtures and the demo model. Set BILLFISH_CUDA_ARCHITECTURES to the target's, such as 90, to
// compile for that alone.
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { buildTypeScript } from './build-ts.mjs'
import { root, run } from './steps.mjs'

const LARGEST = 64 * 1024 * 1024 // of the archive
const folder = join(root, 'build-gpu')
const bundle = join(folder, 'billfish-gpu')

const text = (program, ...args) => execFileSync(program, args, { cwd: root, encoding: 'utf8' }).trim()

process.env.BILLFISH_CUDA ||= 'on'
buildNative()
await buildTypeScript()
const build = join(root, 'build')
const TESTS = 'billfish_gpu_tests'
run('cmake', ['--build', build, '--parallel', String(availableParallelism()), '--target', TESTS])

rmSync(bundle, { recursive: true, force: true })
// Left out: types, sources and source maps, which are for developers; and checkpoints that exercise nothing on a GPU that
// other models do not: of vision models, of AutoRound, with odd zero points, and of experts most formats.
const LEFT = [
  /\.(map|[cm]?ts)$/,
  /zod.src$/,
  /fixtures.models.[^/]*(vl|autoround|odd-zeros|moe-(awq|bf16|ct|fused))[^/]*$/,
]
const runs = (path) => !LEFT.some((pattern) => pattern.test(path))
const copy = (path) => cpSync(join(root, path), join(bundle, path), { recursive: true, filter: runs })
mkdirSync(join(bundle, 'bin'), { recursive: true })
copyFileSync(process.execPath, join(bundle, 'bin', 'node'))
copyFileSync(join(build, TESTS), join(bundle, 'bin', TESTS))
for (const program of ['node', TESTS]) {
  run('strip', ['--strip-unneeded', join(bundle, 'bin', program)])
  chmodSync(join(bundle, 'bin', program), 0o755)
}
for (const path of [
  'package.json',
  'dist',
  'build/Release/billfish.node',
  'test/gpu',
  'test/support/goldens.cjs',
  'test/support/random.cjs',
  'test/fixtures/gemm',
  'test/fixtures/models',
  'bench/peers/torch_int4.py',
  'examples',
]) {
  copy(path)
}
const { dependencies } = JSON.parse(text(process.execPath, '-p', 'JSON.stringify(require("./package.json"))'))
for (const name of installedWith(Object.keys(dependencies))) copy(`node_modules/${name}`)
writeFileSync(join(bundle, 'run'), '#!/bin/sh\ncd "$(dirname "$0")" && exec ./bin/node test/gpu/run.cjs "$@"\n')
chmodSync(join(bundle, 'run'), 0o755)
const commit = text('git', 'rev-parse', 'HEAD') + (text('git', 'status', '--porcelain', '-uno') ? ' with changes' : '')
writeFileSync(join(bundle, 'COMMIT'), `${commit}\n`)

const archive = `${bundle}.tar.xz` // of gzip it would be a quarter larger
execFileSync('tar', ['-C', folder, '--use-compress-program', 'xz -9 -T0', '-cf', archive, 'billfish-gpu'])
const { size } = statSync(archive)
console.log(`${archive}: ${(size / 2 ** 20).toFixed(1)} MiB`)
if (size > LARGEST) {
  console.error('billfish: the archive is larger than 64 MiB')
  process.exit(1)
}

/** Packages and their transitive dependencies. */
function installedWith(names) {
  const all = new Set()
  const add = (name) => {
    if (all.has(name) || !existsSync(join(root, 'node_modules', name))) return
    all.add(name)
    const manifest = JSON.parse(
      text(process.execPath, '-p', `JSON.stringify(require("./node_modules/${name}/package.json"))`),
    )
    for (const dependency of Object.keys(manifest.dependencies ?? {})) add(dependency)
  }
  names.forEach(add)
  return all
}
