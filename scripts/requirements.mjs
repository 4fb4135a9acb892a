// The tools that a native build needs, and how to install missing ones.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { output, root } from './steps.mjs'

const PACKAGES = {
  compiler: { 'apt-get': 'g++', dnf: 'gcc-c++', brew: 'gcc' },
  cmake: { 'apt-get': 'cmake', dnf: 'cmake', brew: 'cmake' },
  ninja: { 'apt-get': 'ninja-build', dnf: 'ninja-build', brew: 'ninja' },
}
const OLDEST_CMAKE = [3, 22]

/** Compares version numbers part by part: true when `version` ("20.17.1") is at least `least` ([20, 17]). */
export function atLeast(version, least) {
  const parts = version.split('.').map(Number)
  for (const [i, part] of least.entries()) {
    if ((parts[i] ?? 0) !== part) return (parts[i] ?? 0) > part
  }
  return true
}

/** Ends the process with a message if this Node.js is older than `engines.node` in package.json allows. */
export function requireNode() {
  const wanted = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node
  const least = wanted.replace(/[^0-9.]/g, '')
  if (atLeast(process.versions.node, least.split('.').map(Number))) return
  console.error(
    `billfish needs Node.js ${wanted}; this is ${process.versions.node} (${process.execPath}).\n` +
      'Install a newer one: https://nodejs.org/en/download, or with a version manager: nvm install 22',
  )
  process.exit(1)
}

/** A complaint about the C++ compiler that CMake would take ($CXX, c++, g++, clang++), or null when it is good. */
function compilerProblem() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
  const compiler = candidates.find((name) => output(name, ['--version']) !== null)
  if (!compiler) return `no C++ compiler was found (tried ${candidates.join(', ')})`
  const folder = mkdtempSync(join(tmpdir(), 'billfish-'))
  try {
    const source = join(folder, 'probe.cc')
    writeFileSync(
      source,
      '#include <concepts>\n#include <span>\nint main() { return std::span<int>().empty() ? 0 : 1; }\n',
    )
    const { status } = spawnSync(compiler, ['-std=c++20', source, '-o', join(folder, 'probe')], { stdio: 'ignore' })
    if (status === 0) return null
    return `${compiler} does not compile C++20 (${output(compiler, ['--version']).split('\n')[0]}); g++ 10, clang 13 or later do`
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function cmakeProblem() {
  const text = output('cmake', ['--version'])
  const version = text?.match(/(\d+\.\d+(\.\d+)?)/)?.[1]
  if (!version) return `CMake was not found; ${OLDEST_CMAKE.join('.')} or later is needed`
  if (atLeast(version, OLDEST_CMAKE)) return null
  return `CMake is ${version}; ${OLDEST_CMAKE.join('.')} or later is needed (also from https://cmake.org/download)`
}

function generatorProblem() {
  const found = ['ninja', 'make'].some((name) => output(name, ['--version']) !== null)
  return found ? null : 'neither ninja nor make was found'
}

/** Names everything that a native build needs and does not find, with the commands that install it, and exits with 1. */
export function requireBuildTools() {
  const problems = { compiler: compilerProblem(), cmake: cmakeProblem(), ninja: generatorProblem() }
  const missing = Object.keys(problems).filter((tool) => problems[tool])
  if (missing.length === 0) return
  const command = (manager) => {
    const names = missing.map((tool) => PACKAGES[tool][manager]).join(' ')
    return manager === 'brew' ? `brew install ${names}` : `sudo ${manager} install -y ${names}`
  }
  console.error(
    [
      'billfish cannot build its native part:',
      ...missing.map((tool) => `  - ${problems[tool]}`),
      'Install what is missing:',
      `  Debian, Ubuntu:  ${command('apt-get')}`,
      `  Fedora, RHEL:    ${command('dnf')}`,
      `  macOS:           ${command('brew')}`,
      'and run the command again.',
    ].join('\n'),
  )
  process.exit(1)
}
