// Makes prebuilds/<platform>-<arch>/billfish.glibc.node, stripped, which node-gyp-build loads where there is no local build.
//
// prebuildify runs a node-gyp-like program in its working folder and takes the addon from build/Release below it. Here it
// gets a staging folder, so that the working build/ keeps its addon, and a program that copies the addon of a normal
// cmake-js build there.
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { root, run } from './steps.mjs'

const staging = join(root, 'build', 'prebuild')
const program = join(staging, 'copy-addon')

/** The program for prebuildify; it ignores node-gyp's arguments, because Node-API needs neither headers nor a target. */
function writeProgram() {
  const target = join(staging, 'build', 'Release')
  mkdirSync(target, { recursive: true })
  const paths = [join(root, 'build', 'Release', 'billfish.node'), join(target, 'billfish.node')]
  const copy = `require('node:fs').copyFileSync(${paths.map((path) => JSON.stringify(path)).join(', ')})`
  writeFileSync(program, `#!${process.execPath}\n${copy}\n`)
  chmodSync(program, 0o755)
}

process.env.BILLFISH_CUDA_ARCHITECTURES ||= 'release'
process.env.BILLFISH_EMULATOR = 'off'
buildNative()
rmSync(staging, { recursive: true, force: true })
rmSync(join(root, 'prebuilds'), { recursive: true, force: true })
writeProgram()
copyFileSync(join(root, 'package.json'), join(staging, 'package.json')) // prebuildify takes the name from it
const require = createRequire(import.meta.url)
const { bin } = JSON.parse(readFileSync(require.resolve('prebuildify/package.json'), 'utf8'))
const prebuildify = require.resolve(`prebuildify/${typeof bin === 'string' ? bin : bin.prebuildify}`)
run(process.execPath, [
  prebuildify,
  ...['--napi', '--strip', '--tag-libc', '--quiet'],
  ...['--cwd', staging, '--out', root, '--node-gyp', program],
])
