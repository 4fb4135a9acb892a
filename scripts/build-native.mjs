#!/usr/bin/env node
// Builds build/Release/billfish.node with cmake-js. In a clone: npm run build:native. In a project that depends on billfish,
// on a platform without a prebuilt binary: npx billfish-build.
//
//   BILLFISH_CUDA=on|off|auto                        whether the CUDA backend is compiled in
//   BILLFISH_CUDA_ARCHITECTURES=default|release|LIST  for which GPUs
//   BILLFISH_EMULATOR=on|off                         whether the emulator is compiled in, which the tests need
//   BILLFISH_UNITY=on|off                            compile sources in batches: faster first build, slower rebuilds
// Values stay in force for later builds until changed.
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { requireBuildTools } from './requirements.mjs'
import { modified, newest, root, run } from './steps.mjs'

const buildFolder = join(root, 'build')
const addon = join(buildFolder, 'Release', 'billfish.node')
const stamp = join(buildFolder, 'Release', 'built')
const OPTIONS = ['BILLFISH_CUDA', 'BILLFISH_CUDA_ARCHITECTURES', 'BILLFISH_EMULATOR', 'BILLFISH_UNITY']

/** True once CMake has configured the build folder. */
export function isConfigured() {
  return existsSync(join(buildFolder, 'CMakeCache.txt'))
}

/** True when the build folder is configured with CUDA. */
export function isCudaCompiled() {
  const plans = ['build.ninja', 'Makefile'].map((name) => join(buildFolder, name)).filter(existsSync)
  return plans.some((plan) => /\bpublished_cuda\b/.test(readFileSync(plan, 'utf8')))
}

/** The options set in the environment that differ from the last configuration. */
function changedOptions() {
  if (!isConfigured()) return [] // CMake reads the environment itself
  const cache = readFileSync(join(buildFolder, 'CMakeCache.txt'), 'utf8')
  const configured = (name) => cache.match(new RegExp(`^${name}:STRING=(.*)$`, 'm'))?.[1]
  if (configured('BILLFISH_EMULATOR') === undefined) process.env.BILLFISH_EMULATOR ||= 'on' // it was in every build once
  return OPTIONS.filter((name) => process.env[name] && process.env[name] !== configured(name))
}

/** True when the addon is missing, older than a source, or built with other options. */
export function nativeBuildNeeded() {
  const sources = ['binding', 'cuda', 'CMakeLists.txt'].map((name) => join(root, name))
  const built = Math.min(modified(addon) && Number.POSITIVE_INFINITY, modified(stamp))
  return built < newest(sources) || changedOptions().length > 0
}

function cmakeJs() {
  const require = createRequire(join(root, 'package.json'))
  const needed = ['cmake-js', 'node-addon-api', 'node-api-headers']
  const missing = needed.filter((name) => {
    try {
      require.resolve(`${name}/package.json`)
      return false
    } catch {
      return true
    }
  })
  if (missing.length > 0) {
    const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    const install = needed.map((name) => `${name}@${devDependencies[name]}`).join(' ')
    console.error(
      `billfish's native part is built with packages that are not installed: ${missing.join(', ')}.\n` +
        `Install them where billfish is installed, then build:\n  npm install --save-dev ${install}\n  npx billfish-build`,
    )
    process.exit(1)
  }
  return join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js')
}

/** Configures if needed, compiles and links. Ends the process with a message on failure. */
export function buildNative() {
  requireBuildTools()
  const program = cmakeJs()
  const changed = changedOptions()
  if (changed.length > 0) run('cmake', [buildFolder, ...changed.map((name) => `-D${name}=${process.env[name]}`)])
  run(process.execPath, [program, 'build', '--log-level', 'warn', '--parallel', String(os.availableParallelism())])
  writeFileSync(stamp, '')
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) buildNative()
