// Uses the installed package with common tools: TypeScript compilers, test runners, a bundler.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { check, download, expect, outputOf, skip } from './checks.mjs'
import { root } from './steps.mjs'

const compilers = {
  'typescript-5.4': 'npm:typescript@5.4.5',
  'typescript-5.9': 'npm:typescript@5.9.3',
  'typescript-7': 'npm:typescript@7.0.2',
}

const typed = `import { BillfishError, devices, layerSplit, loadModel, planModel, type GenerateOptions } from 'billfish'
import { createBillfish } from 'billfish/ai-sdk'
import { createApp, createServer, type ServerOptions } from 'billfish/server'
export async function answer(directory: string): Promise<string> {
  const model = await loadModel(directory, { deviceMap: 'cpu', dtype: 'float32' })
  const options: GenerateOptions = { temperature: 0, maxNewTokens: 4 }
  try {
    for await (const chunk of model.generate('Hello', options)) console.log(chunk.text.length)
    const { text, tokenIds } = await model.generate([1, 2, 3], options).result()
    return text + tokenIds.length
  } catch (error) {
    return error instanceof BillfishError ? error.code : 'none'
  } finally {
    await model.dispose()
  }
}
export async function stream(directory: string) {
  const billfish = createBillfish({ name: await loadModel(directory) })
  const prompt = [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'Hello' }] }]
  const { stream } = await billfish('name').doStream({ prompt, maxOutputTokens: 4 })
  const part = (await stream.getReader().read()).value
  if (part?.type === 'text-delta') console.log(part.delta)
}
export async function serve(directory: string, options: ServerOptions): Promise<string> {
  const model = await loadModel(directory)
  const answer = await createApp({ name: model }, { apiKeys: ['key'] }).fetch(new Request('http://localhost/health'))
  const server = await createServer(model, options)
  await server.close()
  return server.url + answer.status
}
export const names = [devices, layerSplit, planModel].length
`

/** Types in CommonJS and ES modules, library types checked too, with the oldest and newest supported compilers. */
function checkTypes(project) {
  for (const name of ['types.cts', 'types.mts']) writeFileSync(join(project, name), typed)
  const options = ['--noEmit', '--strict', '--skipLibCheck', 'false', '--module', 'nodenext', '--target', 'es2022']
  options.push('--types', 'node', '--typeRoots', join(root, 'node_modules', '@types'))
  const compile = (modules, name) =>
    check(`types compile with ${name}`, () => {
      const compiler = join(modules, name, 'bin', 'tsc')
      outputOf(process.execPath, [compiler, ...options, 'types.cts', 'types.mts'], { cwd: project })
    })
  compile(join(root, 'node_modules'), 'typescript')
  const { modules, problem } = download('typescript', compilers)
  for (const name of Object.keys(compilers)) {
    if (problem) skip(`types compile with ${name}`, problem)
    else compile(modules, name)
  }
}

const use = `
const directory = require.resolve('billfish/package.json').replace('package.json', 'examples/demo-model')
async function use() {
  const { loadModel } = require('billfish')
  const model = await loadModel(directory)
  const { text } = await model.generate([{ role: 'user', content: 'Hello' }], { maxNewTokens: 4 }).result()
  const { usage } = await model.generate('<|endoftext|>'.repeat(400), { maxNewTokens: 2 }).result()
  const error = await loadModel('/nowhere').catch((error) => error)
  await model.dispose()
  return { text, tokens: usage.promptTokens, code: error.code }
}
`

function checkTestRunners(project) {
  const folder = join(project, 'tests')
  mkdirSync(folder, { recursive: true })
  const body = `test('use', async () => expect(await use()).toMatchObject({ tokens: 400, code: 'INVALID_CHECKPOINT' }), 60_000)`
  writeFileSync(join(folder, 'use.test.cjs'), `${use}\n${body}\n`)
  check("vitest's vmThreads run it", () => {
    const imports = "import { createRequire } from 'node:module'\nimport { expect, test } from 'vitest'\n"
    const source = `${imports}const require = createRequire(import.meta.url)\n${use}\n${body}\n`
    writeFileSync(join(folder, 'use.vitest.mjs'), source)
    const config = `export default { test: { include: ['tests/*.vitest.mjs'], pool: 'vmThreads' } }`
    writeFileSync(join(project, 'vitest.config.mjs'), config)
    const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
    outputOf(process.execPath, [vitest, 'run', '--root', project], { cwd: project })
  })
  const name = 'Jest runs it in CommonJS, and ends'
  const { modules, problem } = download('jest', { jest: '30.5.2' })
  if (problem) return skip(name, problem)
  check(name, () => {
    const config = { rootDir: project, testEnvironment: 'node', testMatch: ['**/tests/*.test.cjs'], watchman: false }
    const args = [join(modules, 'jest', 'bin', 'jest.js'), '--config', JSON.stringify(config), '--runInBand']
    outputOf(process.execPath, args, { cwd: project }) // which does not return while something keeps the process
  })
}

function checkBundles(project) {
  const { modules, problem } = download('esbuild', { esbuild: '0.28.2', '@esbuild/linux-x64': '0.28.2' })
  const formats = { cjs: 'esbuild bundles it in CommonJS', esm: 'esbuild bundles it as an ES module' }
  writeFileSync(
    join(project, 'bundled.ts'),
    `import { layerSplit, loadModel } from 'billfish'
    async function main(): Promise<void> {
      const model = await loadModel('node_modules/billfish/examples/demo-model', { deviceMap: layerSplit(['cpu:0', 'cpu:1'], 8) })
      const { text } = await model.generate('<|endoftext|>'.repeat(400), { maxNewTokens: 4 }).result()
      console.log(typeof text)
      await model.dispose()
    }
    void main()`,
  )
  for (const [format, name] of Object.entries(formats)) {
    if (problem) {
      skip(name, problem)
      continue
    }
    check(name, () => {
      const output = `bundled.${format === 'cjs' ? 'cjs' : 'mjs'}`
      const options = [
        '--bundle',
        '--platform=node',
        `--format=${format}`,
        '--external:billfish',
        `--outfile=${output}`,
      ]
      outputOf(join(modules, '@esbuild', 'linux-x64', 'bin', 'esbuild'), ['bundled.ts', ...options], { cwd: project })
      const text = outputOf(process.execPath, [output], { cwd: project })
      expect(text === 'string\n', `the bundle printed ${text}`)
    })
  }
}

/** @param project folder in which billfish is installed */
export function checkTools(project) {
  checkTypes(project)
  checkTestRunners(project)
  checkBundles(project)
}
