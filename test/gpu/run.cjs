// In a bundle of scripts/gpu-bundle.mjs:
//
//   ./run first 1|2|3 [--minutes 9]     the first half hour on a GPU, in three parts (docs/gpu-first-run.md)
//   ./run test [NAME] [--minutes N]     native tests, goldens and soak whose name contains NAME
//   ./run bench [MODEL,...]             GEMM, tiles, attention, whole models, peers
//   ./run sanitize [NAME]               the native tests under compute-sanitizer
//
// Every check and every measurement is a process of its own with a time limit; what breaks fails by itself. Results go to
// results/ and, all of them, to results.tar.gz, which has at most 16 MiB. The last line is "N passed, N failed".
const { execFileSync } = require('node:child_process')
const {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} = require('node:fs')
const { join, resolve } = require('node:path')
const { parseArgs } = require('node:util')
const { runIsolated, runOnce } = require('./isolated.cjs')
const { computeSanitizer, libraryEnvironment } = require('./libraries.cjs')

const bundle = resolve(__dirname, '..', '..')
const results = join(bundle, 'results')
const node = process.execPath
const tests = join(bundle, 'bin', 'billfish_gpu_tests')
const largestArchive = 16 * 1024 * 1024

/** Seconds that one check may take. */
const limits = { native: 60, golden: 120, soak: 240, bench: 240, sanitized: 300 }

const script = (name, ...args) => [node, join('test', 'gpu', name), ...args]
const billfish = (...args) => [node, join('dist', 'cli', 'main.js'), ...args]

/** The checks that a name selects. */
const checks = {
  native: (filter) =>
    nativeTests()
      .filter((name) => name.includes(filter))
      .map((name) => ({ name, command: [tests, '--exactly', name], limit: limits.native })),
  goldens: (filter) =>
    readdirSync(join(bundle, 'test', 'fixtures', 'models'))
      .filter((name) => !name.includes('-vl-') && name.includes(filter))
      .map((name) => ({
        name: `golden ${name}`,
        command: script('goldens.cjs', '--models', name, '--json', join('results', `golden-${name}.json`)),
        limit: limits.golden,
      })),
  soak: (filter) =>
    'soak'.includes(filter)
      ? [{ name: 'soak', command: script('soak.cjs', '--json', join('results', 'soak.json')), limit: limits.soak }]
      : [],
  sanitized: (filter, tool) => {
    const sanitizer = computeSanitizer()
    if (sanitizer === undefined) return []
    return nativeTests()
      .filter((name) => name.includes(filter))
      .map((name) => ({
        name: `${tool} ${name}`,
        command: [sanitizer, '--tool', tool, '--error-exitcode', '9', tests, '--exactly', name],
        limit: limits.sanitized,
      }))
  },
}

/** Benchmarks print JSON, which is kept, and told as their commands tell it. */
const benches = (models) => [
  ['gemm', billfish('bench', 'gemm', '--device', 'cuda:0', '--svg', join('results', 'gemm.svg'))],
  [
    'tiles',
    billfish(
      'bench',
      'tune',
      '--device',
      'cuda:0',
      '--every-tile',
      '--bits',
      '4,8',
      '--rows',
      '1,2,4,8,16',
      '--output',
      join('results', 'tuning.txt'),
    ),
  ],
  ['attention', billfish('bench', 'attention', '--device', 'cuda:0')],
  ...models.map((model) => [
    `model-${model}`,
    billfish(
      'bench',
      'model',
      '--random',
      model,
      '--device-map',
      'cuda:0',
      '--batch-sizes',
      '1,4,16',
      '--contexts',
      '512,4096',
    ),
  ]),
]

function nativeTests() {
  return execFileSync(tests, ['--list'], { encoding: 'utf8' }).trim().split('\n')
}

function say(line) {
  console.log(line)
  appendFileSync(join(results, 'log.txt'), `${line}\n`)
}

/** Runs checks, keeps what each printed, and adds them up. */
async function check(title, list, deadline, total) {
  say(`== ${title}`)
  const outcomes = await runIsolated(list, { deadline, say, cwd: bundle })
  const file = join(results, `${title.replace(/\W+/g, '-')}.json`)
  writeFileSync(file, `${JSON.stringify(outcomes, null, 1)}\n`)
  for (const { outcome } of outcomes) {
    if (outcome === 'passed') total.passed++
    else if (outcome === 'skipped' || outcome === 'not run') total.skipped++
    else total.failed++
  }
}

async function bench(models, deadline, total) {
  for (const [name, command] of benches(models)) {
    const remaining = (deadline - Date.now()) / 1000
    if (remaining < 1) {
      total.skipped++
      say(`not run, since the time was up: ${name}`)
      continue
    }
    say(`== billfish ${command.slice(2).join(' ')}`)
    const file = join(results, `${name}.json`)
    const shell = ['sh', '-c', 'out=$1; shift; exec "$@" --json >"$out"', 'sh', file, ...command]
    const run = await runOnce(shell, { limit: Math.min(limits.bench, remaining), cwd: bundle })
    const summary = run.outcome === 'passed' && (await runOnce(script('summary.cjs', file), { limit: 30, cwd: bundle }))
    if (summary && summary.outcome === 'passed') {
      total.passed++
      say(summary.output)
    } else {
      total.failed++
      say(`FAILED ${name}: ${run.outcome}\n${run.output}`)
    }
  }
  say('== peers')
  const peers = ['python3', join('bench', 'peers', 'torch_int4.py')]
  const run = await runOnce(peers, { limit: limits.bench, cwd: bundle })
  writeFileSync(join(results, 'peers.json'), run.output)
  say(run.output.slice(0, 2000))
}

/** The first half hour on a GPU: what is most likely wrong first, and each part worth its time alone. */
const parts = {
  async 1(deadline, total) {
    await check('native', checks.native(''), deadline, total)
    await check('goldens', checks.goldens(''), deadline, total)
  },
  async 2(deadline, total) {
    await bench(['qwen2-7b-int4', 'qwen2-72b-int4'], deadline, total)
  },
  async 3(deadline, total) {
    await check('soak', checks.soak(''), deadline, total)
    for (const tool of ['memcheck', 'racecheck', 'synccheck', 'initcheck']) {
      await check(tool, checks.sanitized(tool === 'memcheck' ? '' : 'gemm', tool), deadline, total)
    }
    if (computeSanitizer() === undefined) say('skipped: there is no compute-sanitizer on this machine')
  },
}

/** results/ in one archive that is small enough to be fetched; of files that would make it too large, the beginning. */
function archive() {
  const file = join(bundle, 'results.tar.gz')
  const pack = () => execFileSync('tar', ['-C', bundle, '-czf', file, 'results'])
  pack()
  while (statSync(file).size > largestArchive) {
    const files = readdirSync(results).map((name) => join(results, name))
    const largest = files.reduce((a, b) => (statSync(a).size >= statSync(b).size ? a : b))
    truncateSync(largest, Math.floor(statSync(largest).size / 2))
    say(`shortened, since the archive would be too large: ${largest}`)
    pack()
  }
  console.log(`results.tar.gz: ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB`)
}

async function main() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { minutes: { type: 'string' } } })
  const [mode, what = ''] = positionals
  const minutes = Number(values.minutes ?? (mode === 'first' ? 9 : 600))
  const isKnown = mode === 'first' ? what in parts : ['test', 'bench', 'sanitize'].includes(mode)
  if (!isKnown || !(minutes > 0)) {
    console.error('usage: ./run first 1|2|3 | test [NAME] | bench [MODEL,...] | sanitize [NAME]   [--minutes N]')
    process.exitCode = 2
    return
  }
  const deadline = Date.now() + minutes * 60_000
  Object.assign(process.env, libraryEnvironment())
  mkdirSync(results, { recursive: true })
  const gpu = await runOnce(['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader'], { limit: 60 })
  const commit = existsSync(join(bundle, 'COMMIT')) ? readFileSync(join(bundle, 'COMMIT'), 'utf8').trim() : 'unknown'
  const name = gpu.outcome === 'passed' ? gpu.output.trim() : 'a machine without nvidia-smi'
  say(`billfish ${commit} on ${name}, ${new Date().toISOString()}: ./run ${positionals.join(' ')}`)
  const total = { passed: 0, failed: 0, skipped: 0 }
  const devices = await runOnce(script('devices.cjs'), { limit: limits.native, cwd: bundle })
  say(devices.output.trimEnd())
  if (devices.outcome === 'skipped') {
    say('0 passed, 0 failed, 1 skipped')
    archive()
    return
  }
  if (mode === 'first') await parts[what](deadline, total)
  if (mode === 'test') {
    await check('native', checks.native(what), deadline, total)
    await check('goldens', checks.goldens(what), deadline, total)
    await check('soak', checks.soak(what), deadline, total)
  }
  if (mode === 'bench') {
    const models = what === '' ? ['qwen2-7b-int4', 'qwen2-72b-int4'] : what.split(',')
    await bench(models, deadline, total)
  }
  if (mode === 'sanitize') {
    if (computeSanitizer() === undefined) say('skipped: there is no compute-sanitizer on this machine')
    for (const tool of ['memcheck', 'racecheck', 'initcheck', 'synccheck']) {
      await check(tool, checks.sanitized(what, tool), deadline, total)
    }
  }
  say(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  archive()
  process.exitCode = total.failed > 0 ? 1 : 0
}

main()
