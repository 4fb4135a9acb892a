// Checks the C++ and CUDA sources: clang-format on all of them, clang-tidy on the files of the addon (needs
// build/compile_commands.json, so build first).
//
//   node scripts/lint-cpp.mjs          report
//   node scripts/lint-cpp.mjs --fix    format in place, no clang-tidy
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { output, root } from './steps.mjs'

const FOLDERS = ['binding', 'cuda', 'test/native', 'bench']
/** Larger ones are fewer parses of the headers, but leave a core idle at the end. */
const BATCH_SIZE = 10
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

/** Sources that are compiled alike, of which one batch is parsed at once: most of the time goes into shared headers. */
function batches() {
  const database = join(root, 'build', 'compile_commands.json')
  if (!existsSync(database)) {
    console.error('billfish: clang-tidy needs build/compile_commands.json; run `npm run build:native` first')
    return undefined
  }
  const entries = JSON.parse(readFileSync(database, 'utf8'))
  if (entries.some(({ file }) => file.includes('Unity'))) {
    console.error(
      'billfish: clang-tidy needs sources that are compiled one by one: BILLFISH_UNITY=off npm run build:native',
    )
    return undefined
  }
  const seen = new Set()
  const alike = new Map()
  for (const { command, file, directory } of entries) {
    const name = relative(root, file)
    if (seen.has(file) || !/^(binding|cuda)[\\/].*\.cc$/.test(name) || !existsSync(file)) continue
    seen.add(file)
    const flags = command.slice(0, command.lastIndexOf(' -o ')) // "-o OUTPUT -c SOURCE" ends it
    const group = alike.get(flags) ?? { flags, directory, files: [] }
    group.files.push(file)
    alike.set(flags, group)
  }
  return [...alike.values()].flatMap(({ flags, directory, files }) => {
    const count = Math.ceil(files.length / BATCH_SIZE)
    return Array.from({ length: count }, (_, at) => ({
      flags,
      directory,
      files: files.filter((_, index) => index % count === at),
    }))
  })
}

/**
 * Writes the text of each batch, and the database that says how clang-tidy compiles them. They are copies, not includes:
 * of included files the analyzer leaves out the functions.
 * @returns the batches, as files with a list of where each source begins
 */
function writeBatches(batches) {
  const folder = join(root, 'build', 'lint')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const written = batches.map(({ files }, index) => {
    const starts = []
    let text = ''
    let line = 1
    for (const file of files) {
      const source = `${readFileSync(file, 'utf8')}\n`
      starts.push({ line, name: relative(root, file) })
      text += source
      line += source.split('\n').length - 1
    }
    const file = join(folder, `batch-${index}.cc`)
    writeFileSync(file, text)
    return { file, starts }
  })
  const database = batches.map(({ flags, directory, files }, index) => {
    const { file } = written[index]
    const besides = [...new Set(files.map((name) => `-iquote ${dirname(name)}`))].join(' ') // includes next to a source
    return { directory, command: `${flags} ${besides} -o ${file}.o -c ${file}`, file }
  })
  writeFileSync(join(folder, 'compile_commands.json'), JSON.stringify(database))
  return written
}

/** Runs clang-tidy on one batch; true if it has no complaints. */
function tidy({ file, starts }) {
  const inSource = (_, line) => {
    const { line: first, name } = starts.findLast((start) => start.line <= Number(line))
    return `${name}:${Number(line) - first + 1}`
  }
  return new Promise((resolve) => {
    const child = spawn('clang-tidy', ['-p', dirname(file), '--quiet', '--warnings-as-errors=*', file], { cwd: root })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
    })
    child.on('close', (code) => {
      if (code !== 0) console.log(text.replaceAll(new RegExp(`\\S*${basename(file)}:(\\d+)`, 'g'), inSource))
      resolve(code === 0)
    })
  })
}

async function tidyAll() {
  const found = batches()
  if (found === undefined) return false
  const waiting = writeBatches(found)
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
