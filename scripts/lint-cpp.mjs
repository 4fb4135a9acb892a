// Checks the C++ and CUDA sources: clang-format on all of them, clang-tidy on the files of the addon (needs
// build/compile_commands.json, so build first).
//
//   node scripts/lint-cpp.mjs          report
//   node scripts/lint-cpp.mjs --fix    format in place, no clang-tidy
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { output, root } from './steps.mjs'

const FOLDERS = ['binding', 'cuda', 'test/native', 'bench']
const fix = process.argv.includes('--fix')

for (const tool of ['clang-format', 'clang-tidy']) {
  if (output(tool, ['--version'])) continue
  console.error(`billfish: ${tool} was not found. Install it, for example: sudo apt-get install -y ${tool}`)
  process.exit(1)
}

/** Files that are tracked or would be added; ignored files are not ours. */
function sources() {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...FOLDERS]
  const { stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' })
  return stdout.split('\n').filter((name) => /\.(cc|h|cu|cuh)$/.test(name) && existsSync(join(root, name)))
}

/** Formats in place, or lists the files that are not formatted. */
function format() {
  const args = fix ? ['-i'] : ['--dry-run', '-Werror']
  const { status, stderr } = spawnSync('clang-format', [...args, ...sources()], { cwd: root, encoding: 'utf8' })
  if (status === 0) return true
  const names = new Set(
    [...stderr.matchAll(/^(\S+?):\d+:\d+: error: code should be clang-formatted/gm)].map((match) => match[1]),
  )
  console.log(names.size > 0 ? `not formatted (npm run format fixes it):\n  ${[...names].join('\n  ')}` : stderr)
  return false
}

/** Runs clang-tidy on one file; true if it has no complaints. */
function tidy(file) {
  return new Promise((resolve) => {
    const child = spawn('clang-tidy', ['-p', 'build', '--quiet', '--warnings-as-errors=*', file], { cwd: root })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
    })
    child.on('close', (code) => {
      if (code !== 0) console.log(text)
      resolve(code === 0)
    })
  })
}

async function tidyAll() {
  const database = join(root, 'build', 'compile_commands.json')
  if (!existsSync(database)) {
    console.error('billfish: clang-tidy needs build/compile_commands.json; run `npm run build:native` first')
    return false
  }
  const compiled = JSON.parse(readFileSync(database, 'utf8')).map(({ file }) => relative(root, file))
  if (compiled.some((file) => file.includes('Unity'))) {
    console.error(
      'billfish: clang-tidy needs sources that are compiled one by one: BILLFISH_UNITY=off npm run build:native',
    )
    return false
  }
  const files = compiled.filter((file) => /^(binding|cuda)[\\/].*\.cc$/.test(file) && existsSync(join(root, file)))
  const waiting = [...new Set(files)]
  let clean = true
  const worker = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) clean = (await tidy(file)) && clean
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  return clean
}

const formatted = format()
const clean = fix || (await tidyAll())
process.exit(formatted && clean ? 0 : 1)
