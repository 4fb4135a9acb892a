import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'

// A llama-bench that prints what ik_llama.cpp's does with `-o json`, behind a line of a log.
const fake = `
const value = (name) => process.argv[process.argv.indexOf(name) + 1]
const has = (name) => process.argv.includes(name)
const [prompt, generated] = has('-gp') ? value('-gp').split(',').map(Number) : [Number(value('-p')), Number(value('-n'))]
const decode = generated > 0
const speed = (decode ? 20 : 200) + (value('-fa') === '1' ? 5 : 0) + (value('-rtr') === '1' ? (decode ? -1 : 10) : 0)
const fields = [
  ['build_commit', 'c242e224'], ['build_number', 3610], ['cuda', false], ['cpu_info', 'A "quoted" processor'],
  ['model_filename', value('-m')], ['n_threads', Number(value('-t'))], ['n_gpu_layers', Number(value('-ngl'))],
  ['flash_attn', value('-fa') === '1'], ['repack', value('-rtr') === '1'], ['n_prompt', prompt], ['n_gen', generated],
  ['avg_ts', speed], ['stddev_ts', 0], ['test', decode ? 'tg' + generated + '@pp' + prompt : 'pp' + prompt],
]
console.log('llama_model_loader: loaded meta data\\n[')
console.log('  {')
for (const [name, value] of fields) console.log('    ' + JSON.stringify(name) + ': ' + JSON.stringify(value) + ',')
console.log('    "samples_ns": [ 1 ],\\n    "samples_ts": [ ' + speed + ' ]\\n  }\\n]')
`

type IkLlamaBench = typeof import('../../../bench/peers/ik-llama.mjs', { with: {
  'resolution-mode': 'import',
}}).IkLlamaBench

describe('ik_llama.cpp by its llama-bench', () => {
  let folder = ''
  let Bench: IkLlamaBench
  beforeAll(async () => {
    Bench = (await import('../../../bench/peers/ik-llama.mjs')).IkLlamaBench
  })
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'billfish-ik-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const program = (text: string) => {
    const path = join(folder, 'llama-bench')
    writeFileSync(path, `#!${process.execPath}\n${text}`)
    chmodSync(path, 0o755)
    return new Bench(path, 'model.gguf', { prefill: 512, prompt: 16, decode: 128 }, 2)
  }

  test('is measured at the fastest settings of each kind', () => {
    const ik = program(fake)
    ik.chooseSettings()
    expect(ik.settings).toEqual({
      prefill: { flashAttention: true, repack: true },
      decode: { flashAttention: true, repack: false },
    })
    expect(ik.measure('prefill')).toBe(215)
    expect(ik.measure('decode')).toBe(25)
    expect(ik.version).toBe('build 3610 (c242e224)')
  })

  test.each([
    ['fails', "console.error('error: unknown model'); process.exit(1)", /exited with 1\nerror: unknown model/],
    ['prints something else', "console.log('| model | t/s |')", /printed no JSON: \| model/],
    [
      'measures something else',
      fake.replace("['n_prompt', prompt]", "['n_prompt', 7]"),
      /measured no 512\+0 tokens, but 7\+0: 200/,
    ],
  ])('a program that %s is an error with its output', (_, text, message) => {
    expect(() => program(text).chooseSettings()).toThrow(message)
  })

  test('a missing program is named', () => {
    const ik = new Bench(join(folder, 'nowhere'), 'model.gguf', { prefill: 512, prompt: 16, decode: 128 }, 2)
    expect(() => ik.chooseSettings()).toThrow(/nowhere cannot be run: .*ENOENT/)
  })
})
