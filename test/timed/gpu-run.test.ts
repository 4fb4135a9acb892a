/** The runner of the GPU bundle, with stand-ins for the programs that need a GPU. */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const require = createRequire(__filename)
const sources = resolve(__dirname, '../gpu')
const { runIsolated, runOnce } = require(join(sources, 'isolated.cjs'))
const { computeSanitizer, libraryEnvironment } = require(join(sources, 'libraries.cjs'))

let scratch = ''
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'billfish-gpu-'))
})
afterEach(() => rmSync(scratch, { recursive: true, force: true }))

function program(path: string, script: string): string {
  mkdirSync(resolve(path, '..'), { recursive: true })
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
  return path
}

const sh = (script: string) => ['sh', '-c', script]
const inAMinute = () => Date.now() + 60_000

describe('checks in processes of their own', () => {
  it('go on after one that fails, crashes, hangs or is missing', async () => {
    const checks = [
      { name: 'right', command: sh('echo fine'), limit: 10 },
      { name: 'wrong', command: sh('echo "off by 3"; exit 1'), limit: 10 },
      { name: 'segfault', command: sh('kill -SEGV $$'), limit: 10 },
      { name: 'hangs, and its child', command: sh('sleep 60 & sleep 60'), limit: 0.3 },
      { name: 'no program', command: [join(scratch, 'nothing')], limit: 10 },
      { name: 'no GPU', command: sh('echo "skipped: no driver"'), limit: 10 },
      { name: 'right again', command: sh('true'), limit: 10 },
    ]
    const said: string[] = []
    const begun = Date.now()
    const results = await runIsolated(checks, { deadline: inAMinute(), say: (line: string) => said.push(line) })
    expect(Date.now() - begun).toBeLessThan(10_000)
    expect(results.map(({ name, outcome }: { name: string; outcome: string }) => [name, outcome])).toEqual([
      ['right', 'passed'],
      ['wrong', 'failed'],
      ['segfault', 'crashed'],
      ['hangs, and its child', 'timed out'],
      ['no program', 'crashed'],
      ['no GPU', 'skipped'],
      ['right again', 'passed'],
    ])
    expect(said.at(-1)).toBe('2 passed, 4 failed, 1 skipped')
    expect(said.join('\n')).toMatch(/FAILED wrong: failed, in every variant\n {4}off by 3/)
  })

  it.each([
    ['BILLFISH_CUDA_GRAPHS', 'off', 'without graphs, without all three'],
    ['BILLFISH_CUDA_PDL', 'off', 'without programmatic launches, without all three'],
    ['BILLFISH_CUDA_GEMM', 'staged', 'without bulk copies, without all three'],
  ])('report that %s=%s fixes one', async (name, value, variants) => {
    const said: string[] = []
    const command = sh(`[ "$${name}" = ${value} ]`)
    await runIsolated([{ name: 'a', command, limit: 10 }], {
      deadline: inAMinute(),
      say: (line: string) => said.push(line),
    })
    expect(said[0]).toContain(`FAILED a: failed, passes ${variants}\n`)
  })

  it('do not start after the deadline', async () => {
    const said: string[] = []
    const checks = [
      { name: 'long', command: sh('sleep 60'), limit: 60 },
      { name: 'late', command: sh('true'), limit: 10 },
    ]
    const results = await runIsolated(checks, { deadline: Date.now() + 1500, say: (line: string) => said.push(line) })
    expect(results.map(({ outcome }: { outcome: string }) => outcome)).toEqual(['timed out', 'not run'])
    expect(said.slice(-2)).toEqual(['not run, since the time was up: 1', '0 passed, 1 failed, 1 skipped'])
  })

  it('keep the beginning and the end of endless output', async () => {
    const { output, outcome } = await runOnce(sh('echo first; yes | head -c 5000000; echo last'), { limit: 20 })
    expect(outcome).toBe('passed')
    expect(output.length).toBeLessThan(70_000)
    expect(output.startsWith('first\n')).toBe(true)
    expect(output.endsWith('last\n')).toBe(true)
    expect(output).toMatch(/\[\.\.\. \d+ characters \.\.\.\]/)
  })
})

it('finds cuBLAS, NCCL and compute-sanitizer in pip wheels', () => {
  for (const file of ['cublas/lib/libcublas.so.12', 'cu13/lib/libcublas.so.13', 'nccl/lib/libnccl.so.2']) {
    program(join(scratch, 'nvidia', file), '')
  }
  const sanitizer = program(join(scratch, 'nvidia/cuda_sanitizer_api/bin/compute-sanitizer'), '')
  const before = process.env.LD_LIBRARY_PATH
  const path = [join(scratch, 'nvidia/cublas/lib'), join(scratch, 'nvidia/nccl/lib'), ...(before ? [before] : [])]
  expect(libraryEnvironment([scratch]).LD_LIBRARY_PATH.split(':')).toEqual(path)
  expect([sanitizer, ...['/usr/local/cuda/bin/compute-sanitizer']]).toContain(computeSanitizer([scratch]))
  expect(libraryEnvironment([join(scratch, 'empty')])).toEqual(before ? { LD_LIBRARY_PATH: before } : {})
})

describe('./run', () => {
  /** A bundle whose native tests are a shell script, and its other programs stubs. */
  function bundle(nativeTest: string, devices = "console.log('cuda:0: a stand-in')"): string {
    cpSync(sources, join(scratch, 'test/gpu'), { recursive: true })
    writeFileSync(join(scratch, 'test/gpu/devices.cjs'), devices)
    writeFileSync(join(scratch, 'test/gpu/goldens.cjs'), "console.log('4 passed, 0 failed')")
    writeFileSync(join(scratch, 'test/gpu/soak.cjs'), "console.log('1 passed, 0 failed')")
    mkdirSync(join(scratch, 'test/fixtures/models/qwen2-a-model'), { recursive: true })
    const list = 'if [ "$1" = --list ]; then printf "sums\\nfaults\\nfloods\\n"; exit; fi'
    program(join(scratch, 'bin/billfish_gpu_tests'), `${list}\n${nativeTest}`)
    return join(scratch, 'test/gpu/run.cjs')
  }
  const run = (file: string, ...args: string[]) => spawnSync(process.execPath, [file, ...args], { encoding: 'utf8' })

  it('goes through the first part, and packs all results', () => {
    const file = bundle('[ "$2" = faults ] && kill -SEGV $$; [ "$2" = sums ]; exit 0')
    const { stdout, status } = run(file, 'first', '1')
    expect(stdout).toMatch(
      /^billfish unknown on .*: \.\/run first 1\ncuda:0: a stand-in\n== native\nFAILED faults: crashed/,
    )
    expect(stdout).toMatch(
      /== goldens\n1 passed, 0 failed, 0 skipped\n3 passed, 1 failed, 0 skipped\nresults\.tar\.gz: 0\.0 MiB\n$/,
    )
    expect(status).toBe(1)
    const listed = spawnSync('tar', ['-tzf', join(scratch, 'results.tar.gz')], { encoding: 'utf8' }).stdout
    expect(listed).toContain('results/native.json')
    const [sums, faults] = JSON.parse(readFileSync(join(scratch, 'results/native.json'), 'utf8'))
    expect(sums).toMatchObject({ name: 'sums', outcome: 'passed' })
    expect(Object.keys(faults.variants)).toHaveLength(4)
  })

  it('keeps the archive small whatever was written', () => {
    const file = bundle('head -c 24000000 /dev/urandom > results/noise; exit 0')
    const { stdout } = run(file, 'test', 'floods')
    expect(stdout).toMatch(/shortened, since the archive would be too large: .*noise/)
    expect(statSync(join(scratch, 'results.tar.gz')).size).toBeLessThanOrEqual(16 * 1024 * 1024)
  })

  it('skips everything, with the reason, if there is no GPU', () => {
    const file = bundle('exit 1', "console.log('skipped: no CUDA device (no driver)')")
    const { stdout, status } = run(file, 'first', '1')
    expect({ status }).toEqual({ status: 0 })
    expect(stdout).toMatch(/skipped: no CUDA device \(no driver\)\n0 passed, 0 failed, 1 skipped\n/)
    expect(readdirSync(join(scratch, 'results'))).toEqual(['log.txt'])
  })

  it.each([[[]], [['first']], [['first', '4']], [['dance']], [['test', '--minutes', 'soon']]])(
    'prints its usage for %j',
    (args) => {
      const { stderr, status } = run(bundle(''), ...args)
      expect(status).toBe(2)
      expect(stderr).toMatch(/^usage: \.\/run first 1\|2\|3 \| test/)
    },
  )
})
