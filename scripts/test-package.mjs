// Packs the package with a prebuilt addon, installs the tarball in an empty folder, and uses it from there as its users
// do: require, import, types, the command line, a generation on the demo model. Prints one line a check, then
// "N passed, N failed".
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildTypeScript } from './build-ts.mjs'
import { root, run } from './steps.mjs'

const megabyte = 1024 * 1024
const largestTarball = 30 * megabyte
let passed = 0
let failed = 0

/** Runs one check; `action` throws, or returns a remark to print. */
function check(name, action) {
  try {
    const remark = action()
    ++passed
    console.log(`ok      ${name}${remark ? `: ${remark}` : ''}`)
  } catch (error) {
    ++failed
    console.log(`FAILED  ${name}: ${error.message}`)
  }
}

function expect(condition, message) {
  if (!condition) throw new Error(message)
}

/** What a program prints; throws with its output when it exits with another code than `code`. */
function outputOf(program, args, { cwd, code = 0, env = {} }) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 300_000,
  })
  if (status !== code) {
    const text = `${stdout}${stderr}`.slice(-3000)
    throw new Error(`${program} ${args.join(' ')} exited with ${error?.message ?? status}, not ${code}:\n${text}`)
  }
  return stdout + (code === 0 ? '' : stderr)
}

run(process.execPath, [join(root, 'scripts', 'prebuild.mjs')])
buildTypeScript()
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'billfish-package-')))
const project = join(folder, 'project')
const installed = join(project, 'node_modules', 'billfish')
mkdirSync(project)
const node = (...args) => outputOf(process.execPath, args, { cwd: project })

const packOutput = outputOf('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root })
const parsed = JSON.parse(packOutput)
const pack = Array.isArray(parsed) ? parsed[0] : Object.values(parsed)[0]
const files = pack.files.map(({ path }) => path)

check('the tarball holds what it should', () => {
  const needed = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CMakeLists.txt', 'cuda/CMakeLists.txt']
  needed.push('dist/index.js', 'dist/index.mjs', 'dist/index.d.ts', 'dist/index.d.mts', 'dist/cli/main.js')
  needed.push('dist/generation/text-worker-thread.js')
  needed.push('binding/napi/addon.cc', 'scripts/build-native.mjs', 'examples/demo-model/model.safetensors')
  const prebuilt = `prebuilds/${process.platform}-${process.arch}/billfish.glibc.node`
  const missing = [...needed, prebuilt].filter((path) => !files.includes(path))
  expect(missing.length === 0, `missing: ${missing.join(', ')}`)
  const strange = files.filter((path) => /^(test|src|node_modules|build|\.)|\.tsbuildinfo$/.test(path))
  expect(strange.length === 0, `should not be there: ${strange.join(', ')}`)
  expect(pack.size < largestTarball, `${pack.size} bytes is more than ${largestTarball}`)
  return `${files.length} files, ${(pack.size / megabyte).toFixed(1)} MB packed`
})

check('it installs in an empty folder', () => {
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true }))
  const args = ['install', '--prefer-offline', '--no-audit', '--no-fund', join(folder, pack.filename)]
  outputOf('npm', args, { cwd: project })
  expect(!existsSync(join(installed, 'build')), 'something was built at install time')
})

check('require gives the public names', () => {
  const names = JSON.parse(node('-p', 'JSON.stringify(Object.keys(require("billfish")))'))
  const missing = ['loadModel', 'devices', 'layerSplit', 'BillfishError'].filter((name) => !names.includes(name))
  expect(missing.length === 0, `missing: ${missing.join(', ')}`)
})

check('import gives the same names and the same instance', () => {
  writeFileSync(
    join(project, 'import.mjs'),
    `import { createRequire } from 'node:module'
    import { BillfishError, devices, layerSplit, loadModel } from 'billfish'
    const required = createRequire(import.meta.url)('billfish')
    const same = { BillfishError, devices, layerSplit, loadModel }
    for (const name in same) if (same[name] !== required[name]) throw new Error(name + ' differs')`,
  )
  node('import.mjs')
})

check('types compile for CommonJS and ES modules', () => {
  const source = `import { devices, layerSplit, loadModel } from 'billfish'
    export async function answer(directory: string): Promise<string> {
      const model = await loadModel(directory, { deviceMap: 'cpu', dtype: 'float32' })
      try {
        for await (const chunk of model.generate('Hello', { maxNewTokens: 4 })) console.log(chunk.text.length)
        const { text, tokenIds } = await model.generate([1, 2, 3], { temperature: 0 }).result()
        return text + tokenIds.length
      } finally {
        await model.dispose()
      }
    }
    export const names = [devices, layerSplit].length`
  for (const name of ['types.cts', 'types.mts']) writeFileSync(join(project, name), source)
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node']
  options.push('--typeRoots', join(root, 'node_modules', '@types'))
  node(join(root, 'node_modules', 'typescript', 'bin', 'tsc'), ...options, 'types.cts', 'types.mts')
})

check('the command line runs', () => {
  const text = outputOf('npx', ['--no-install', 'billfish', 'devices', '--json'], { cwd: project })
  expect(Array.isArray(JSON.parse(text).devices), `no devices in ${text.slice(0, 500)}`)
})

check('the demo model answers, split over two devices', () => {
  const directory = join(installed, 'examples', 'demo-model')
  writeFileSync(
    join(project, 'generate.mjs'),
    `import { readFileSync } from 'node:fs'
    import { layerSplit, loadModel } from 'billfish'
    const directory = ${JSON.stringify(directory)}
    const { num_hidden_layers: layers } = JSON.parse(readFileSync(directory + '/config.json', 'utf8'))
    const model = await loadModel(directory, { deviceMap: layerSplit(['cpu:0', 'cpu:1'], layers) })
    const messages = [{ role: 'user', content: 'Hello' }]
    const { text, usage } = await model.generate(messages, { maxNewTokens: 8, temperature: 0 }).result()
    await model.dispose()
    if (text.length === 0) throw new Error('no text')
    console.log(JSON.stringify({ text, usage }))`,
  )
  return node('generate.mjs').trim()
})

check('a long prompt is tokenized on its own thread', () => {
  const directory = join(installed, 'examples', 'demo-model')
  writeFileSync(
    join(project, 'long.mjs'),
    `import { loadModel } from 'billfish'
    const model = await loadModel(${JSON.stringify(directory)})
    const prompt = '<|endoftext|>'.repeat(400)
    const { usage } = await model.generate(prompt, { maxNewTokens: 2, temperature: 0 }).result()
    await model.dispose()
    if (usage.promptTokens !== 400) throw new Error(usage.promptTokens + ' tokens')`,
  )
  node('long.mjs')
})

check('without an addon it says how to build one', () => {
  renameSync(join(installed, 'prebuilds'), join(installed, 'hidden'))
  try {
    const code = 'try { require("billfish").devices() } catch (error) { console.log(error.code, error.message) }'
    const text = node('-e', code)
    expect(text.startsWith('ADDON_NOT_FOUND'), `it said: ${text}`)
    expect(text.includes('npx billfish-build'), `no way out in: ${text}`)
    const build = outputOf('npx', ['--no-install', 'billfish-build'], { cwd: project, code: 1 })
    expect(/npm install --save-dev cmake-js@[\d.]+/.test(build), `billfish-build said: ${build}`)
  } finally {
    renameSync(join(installed, 'hidden'), join(installed, 'prebuilds'))
  }
})

rmSync(folder, { recursive: true })
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
