import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(__dirname, '../../..')
const bench = (file: string, line: string) =>
  spawnSync(process.execPath, [join(root, 'bench', file), ...line.split(' ').filter(Boolean)], { encoding: 'utf8' })

test.each([
  ['', /No benchmark is named/],
  ['nosuch', /no benchmark 'nosuch'/],
  ['cpu --foo', /Unknown option '--foo'.*--rounds <n>/s],
  ['cpu --rounds', /argument missing/],
  ['cpu --rounds -1', /argument is ambiguous/],
  ['cpu --rounds 1e3', /--rounds is '1e3', but must be a whole number of at least 1/],
  ['cpu --loads 0', /--loads is '0'/],
  ['cpu --dtype int4', /--dtype: there is no 'int4'; there is auto, float32/],
  ['pipeline --tokens 1.5', /--tokens is '1.5'/],
  ['pipeline extra', /Unexpected argument 'extra'/],
  ['ranks --prompt=', /--prompt is ''/],
  ['accuracy --limit', /Unknown option '--limit'/],
  ['pad --formats bf16,int3', /there is no 'int3'; there is bf16, gptq, demo/],
  ['pad --kills NaN', /--kills is 'NaN', but must be a whole number of at least 0/],
  ['pad --folder /no/such/folder', /--folder .* does not exist/],
  ['first-token --calls x', /--calls is 'x'/],
  ['first-token --against /no/such/clone', /--against .*: no clone of billfish/],
])('npm run bench -- %s', (line, message) => {
  const { status, stdout, stderr } = bench('main.mjs', line)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(message)
  expect(stderr).not.toMatch(/^ {4}at /m)
})

test.each(['', 'cpu ', 'pipeline ', 'ranks ', 'accuracy ', 'pad ', 'first-token ', 'structured-output '])(
  '%s--help',
  (name) => {
    expect(bench('main.mjs', `${name}--help`)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('npm run bench -- '),
    })
  },
)

test('bench/make-model.mjs takes only whole numbers', () => {
  expect(bench('make-model.mjs', '--layers two')).toMatchObject({
    status: 2,
    stderr: "--layers is 'two', but must be a whole number of at least 1.\n",
  })
})
