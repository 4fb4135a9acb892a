// Builds the native tests and runs them in one process per core.
//
//   node scripts/test-native.mjs plain|address|thread [FILTER]
//
// plain: built like the addon, from the objects in build/. address: AddressSanitizer and UndefinedBehaviorSanitizer.
// thread: ThreadSanitizer. FILTER runs only the tests whose name contains it. Sanitized builds have their own
// folders, use clang++ if it is installed (so that both compilers see the code) and treat warnings as errors.
import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { requireBuildTools } from './requirements.mjs'
import { output, root, run } from './steps.mjs'

const SANITIZERS = { address: 'address,undefined', thread: 'thread' }
const [mode = 'plain', filter = ''] = process.argv.slice(2)
if (mode !== 'plain' && !(mode in SANITIZERS)) {
  console.error(`usage: node scripts/test-native.mjs plain|${Object.keys(SANITIZERS).join('|')} [FILTER]`)
  process.exit(1)
}
requireBuildTools()

const folder = join(root, mode === 'plain' ? 'build' : `build-tests-${mode}`)
if (mode === 'plain') run(process.execPath, [join(root, 'scripts', 'setup.mjs')])
else configureSanitized()
const parallel = availableParallelism()
const program = join(folder, 'billfish_native_tests')
run('cmake', ['--build', folder, '--target', 'billfish_native_tests', '--parallel', String(parallel)])
await runTests()

function configureSanitized() {
  const generator = output('ninja', ['--version']) ? ['-G', 'Ninja'] : []
  // -O1: a sanitized build at -O3 takes twice as long to compile and finds no more.
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_CXX_FLAGS_RELEASE=-O1', '-DBILLFISH_WERROR=ON']
  options.push(`-DBILLFISH_SANITIZE=${SANITIZERS[mode]}`, '-DBILLFISH_CUDA=off', '-DBILLFISH_UNITY=on')
  if (!process.env.CXX && output('clang++', ['--version'])) options.push('-DCMAKE_CXX_COMPILER=clang++')
  run('cmake', ['-S', root, '-B', folder, '--log-level=WARNING', ...generator, ...options])
}

/** Runs every share in a process of its own; prints what each had to say, and the sum of the counts as the last line. */
async function runTests() {
  const shares = await Promise.all(Array.from({ length: parallel }, (_, i) => runShare(i)))
  const sums = { passed: 0, failed: 0, skipped: 0 }
  for (const { text, status, signal } of shares) {
    const counts = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\n$/m.exec(text)
    process.stdout.write(counts ? text.replace(counts[0], '') : text)
    sums.passed += Number(counts?.[1] ?? 0)
    sums.failed += Number(counts?.[2] ?? 0)
    sums.skipped += Number(counts?.[3] ?? 0)
    if (counts && (status === 0) === (counts[2] === '0')) continue
    console.error(`billfish: the native tests (${mode}) ended by ${signal ?? `exit code ${status}`}`)
    sums.failed += 1
  }
  console.log(`${sums.passed} passed, ${sums.failed} failed${sums.skipped > 0 ? `, ${sums.skipped} skipped` : ''}`)
  process.exit(sums.failed === 0 ? 0 : 1)
}

function runShare(index) {
  const environment = {
    // LLVM 14 takes a thread-local block of a dlopened library that starts 16 bytes into a page for one of glibc
    // 2.19 and reads where it begins from what precedes it: the leak check of a library with thread_local (the fake
    // NCCL's) then crashes now and then. Without the interceptor such blocks are no roots; nothing here depends on that.
    ASAN_OPTIONS: 'detect_leaks=1:strict_string_checks=1:intercept_tls_get_addr=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
    TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1',
    ...process.env,
  }
  return new Promise((resolve) => {
    const args = ['--shard', String(index), String(parallel), filter]
    const child = spawn(program, args, { cwd: folder, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (piece) => {
        text += piece
      })
    }
    child.on('close', (status, signal) => resolve({ text, status, signal }))
  })
}
