// Builds the native tests in a folder of their own and runs them.
//
//   node scripts/test-native.mjs plain|address|thread [FILTER]
//
// plain: as the addon is built. address: AddressSanitizer and UndefinedBehaviorSanitizer. thread: ThreadSanitizer.
// FILTER runs only the tests whose name contains it. The sanitized builds use clang++ where it is installed (so that
// both compilers see the code) and treat warnings as errors.
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { requireBuildTools } from './requirements.mjs'
import { output, root, run } from './steps.mjs'

const sanitizers = { plain: '', address: 'address,undefined', thread: 'thread' }
const [mode = 'plain', filter] = process.argv.slice(2)
if (!(mode in sanitizers)) {
  console.error(`usage: node scripts/test-native.mjs ${Object.keys(sanitizers).join('|')} [FILTER]`)
  process.exit(1)
}
requireBuildTools()

const folder = join(root, mode === 'plain' ? 'build-tests' : `build-tests-${mode}`)
const options = ['-DBILLFISH_TESTS=ON', '-DCMAKE_BUILD_TYPE=Release']
if (mode !== 'plain') {
  // -O1: a sanitized build at -O3 takes twice as long to compile and finds no more.
  options.push(`-DBILLFISH_SANITIZE=${sanitizers[mode]}`, '-DBILLFISH_CUDA=off', '-DCMAKE_CXX_FLAGS_RELEASE=-O1')
  options.push('-DBILLFISH_WERROR=ON')
  if (!process.env.CXX && output('clang++', ['--version'])) options.push('-DCMAKE_CXX_COMPILER=clang++')
}
const generator = output('ninja', ['--version']) ? ['-G', 'Ninja'] : []
run('cmake', ['-S', root, '-B', folder, '--log-level=WARNING', ...generator, ...options])
run('cmake', ['--build', folder, '--parallel', String(availableParallelism())])

const environment = {
  ASAN_OPTIONS: 'detect_leaks=1:strict_string_checks=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1',
  ...process.env,
}
const { status, signal } = spawnSync(join(folder, 'billfish_native_tests'), filter ? [filter] : [], {
  cwd: root,
  stdio: 'inherit',
  env: environment,
})
if (signal) console.error(`billfish: the native tests (${mode}) ended by ${signal}`)
process.exit(status ?? 1)
