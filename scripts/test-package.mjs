// Assembles and packs the packages, installs the tarballs in an empty folder, and uses them as users do: require, import,
// types, the command line, a generation on the demo model; in other versions of Node.js, in Bun, in test runners and
// bundles. Prints one line per check, then "N passed, N failed".
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isCudaCompiled } from './build-native.mjs'
import { check, expect, finish, outputOf, skip } from './checks.mjs'
import { checkRuntimes } from './package-runtimes.mjs'
import { checkTools } from './package-tools.mjs'
import { assemblePackages } from './packages.mjs'

const MEGABYTE = 1e6
const LARGEST_TARBALL = 10 * MEGABYTE // of billfish without an addon
const cuda = isCudaCompiled()
/** What users import, with some of the names that it must have. */
const entries = {
  billfish: ['loadModel', 'devices', 'layerSplit', 'BillfishError'],
  'billfish/server': ['createServer', 'createApp'],
  'billfish/ai-sdk': ['createBillfish'],
}
const packed = await assemblePackages({ cuda })
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'billfish-package-')))
const project = join(folder, 'project')
const installed = join(project, 'node_modules', 'billfish')
mkdirSync(project)
const node = (...args) => outputOf(process.execPath, args, { cwd: project })
const { files } = packed.main

check('the tarball holds what it should', () => {
  const needed = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CMakeLists.txt', 'cuda/CMakeLists.txt']
  needed.push('dist/index.js', 'dist/index.mjs', 'dist/cli/main.js', 'dist/generation/text-worker-thread.js')
  needed.push('dist/page/index.html')
  needed.push('binding/napi/addon.cc', 'scripts/build-native.mjs', 'examples/demo-model/model.safetensors')
  const missing = needed.filter((path) => !files.includes(path))
  expect(missing.length === 0, `missing: ${missing.join(', ')}`)
  const strange = files.filter((path) => /^(test|src|node_modules|build|packages|\.)|\.(tsbuildinfo|node)$/.test(path))
  expect(strange.length === 0, `should not be there: ${strange.join(', ')}`)
  const types = files.filter((path) => path.endsWith('.d.ts') || path.endsWith('.d.mts'))
  const { exports } = JSON.parse(readFileSync(join(packed.main.folder, 'package.json'), 'utf8'))
  const typed = Object.values(exports).flatMap((entry) =>
    [entry.import?.types ?? [], entry.require?.types ?? []].flat(),
  )
  const expected = typed.map((path) => path.slice(2)).sort()
  expect(types.sort().join() === expected.join(), `types are in ${types.join(', ')}`)
  expect(packed.main.size < LARGEST_TARBALL, `${packed.main.size} bytes is more than ${LARGEST_TARBALL}`)
  return `${files.length} files, ${(packed.main.size / MEGABYTE).toFixed(1)} MB packed`
})

check('the CommonJS code imports nothing dynamically', () => {
  const code = files.filter((path) => path.startsWith('dist/') && path.endsWith('.js'))
  const read = (path) => readFileSync(join(packed.main.folder, path), 'utf8').replace(/^\s*(\/\/|\/?\*).*$/gm, '')
  const found = code.filter((path) => /\bimport\s*\(/.test(read(path)))
  expect(found.length === 0, `import( is in ${found.join(', ')}`)
  return `${code.length} files`
})

for (const variant of ['cpu', 'cuda']) {
  const name = `the package with the addon for ${variant === 'cpu' ? 'the CPU' : 'CUDA'} holds that alone`
  if (packed[variant] === undefined) {
    skip(name, 'this build has no CUDA in it')
    continue
  }
  check(name, () => {
    const { files, size, addonBytes } = packed[variant]
    expect(files.join() === 'LICENSE,README.md,billfish.node,package.json', `it holds ${files.join(', ')}`)
    return `addon ${(addonBytes / MEGABYTE).toFixed(1)} MB, ${(size / MEGABYTE).toFixed(1)} MB packed`
  })
}

/** npm's look-ups of the platform packages end at the tarballs instead of the registry. */
function install(...tarballs) {
  const names = { '@billfish/linux-x64': packed.cpu, '@billfish/linux-x64-cuda': packed.cuda }
  // npm refuses an override of what is installed by itself.
  const overrides = Object.entries(names)
    .filter(([, pack]) => pack !== undefined && !tarballs.includes(pack.tarball))
    .map(([name, pack]) => [name, `file:${pack.tarball}`])
  const manifest = { name: 'project', private: true, overrides: Object.fromEntries(overrides) }
  writeFileSync(join(project, 'package.json'), JSON.stringify(manifest))
  const args = ['install', '--prefer-offline', '--no-audit', '--no-fund', ...tarballs]
  outputOf('npm', args, { cwd: project })
}

/** The addon that the installed billfish uses. */
const addonInUse = () => JSON.parse(node('-p', 'JSON.stringify(require("billfish").devices().addon)'))

check('it installs in an empty folder, with the addon for the CPU and nothing to build', () => {
  install(packed.main.tarball)
  expect(!existsSync(join(installed, 'build')), 'something was built at install time')
  expect(existsSync(join(project, 'node_modules/@billfish/linux-x64')), 'no @billfish/linux-x64')
  expect(!existsSync(join(project, 'node_modules/@billfish/linux-x64-cuda')), 'nobody asked for CUDA')
  const { source, package: name, passedOver } = addonInUse()
  expect(source === 'package' && name === '@billfish/linux-x64' && passedOver === null, `it uses ${source} ${name}`)
})

check('the published addon has no emulator, and says how to get it', () => {
  const { devices, emulator } = JSON.parse(
    node('-p', 'JSON.stringify(require("billfish").devices({ emulated: true }))'),
  )
  expect(!devices.some(({ kind }) => kind === 'emulated') && emulator.compiled === false, 'there are emulated devices')
  expect(/BILLFISH_EMULATOR=on/.test(emulator.reason), `the reason is ${emulator.reason}`)
  const load = `require("billfish").loadModel("node_modules/billfish/examples/demo-model", { deviceMap: "emulated:0" })
    .then(() => console.log("loaded"), (error) => console.log(error.code, error.message))`
  const text = node('-e', load)
  expect(/^DEVICE_NOT_FOUND .*emulated:0.*BILLFISH_EMULATOR=on/.test(text), `loadModel said: ${text}`)
})

for (const [entry, expected] of Object.entries(entries)) {
  check(`require gives the public names of ${entry}`, () => {
    const names = JSON.parse(node('-p', `JSON.stringify(Object.keys(require(${JSON.stringify(entry)})))`))
    const missing = expected.filter((name) => !names.includes(name))
    expect(missing.length === 0, `missing: ${missing.join(', ')}`)
  })

  check(`import gives the same names and the same instance of ${entry}`, () => {
    writeFileSync(
      join(project, 'import.mjs'),
      `import { createRequire } from 'node:module'
      import * as imported from '${entry}'
      import { ${expected.join(', ')} } from '${entry}'
      const required = createRequire(import.meta.url)('${entry}')
      if (Object.keys(imported).sort().join() !== Object.keys(required).sort().join()) throw new Error('other names')
      const same = { ${expected.join(', ')} }
      for (const name in same) if (same[name] !== required[name]) throw new Error(name + ' differs')`,
    )
    node('import.mjs')
  })
}

check('the command line runs', () => {
  const text = outputOf('npx', ['--no-install', 'billfish', 'devices', '--json'], { cwd: project })
  expect(Array.isArray(JSON.parse(text).devices), `no devices in ${text.slice(0, 500)}`)
  const table = outputOf('npx', ['--no-install', 'billfish', 'devices'], { cwd: project })
  expect(/^Addon without CUDA: .*linux-x64.billfish\.node$/m.test(table), `no addon in ${table}`)
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

check('it serves the demo model over HTTP', () => {
  writeFileSync(
    join(project, 'serve.cjs'),
    `const { loadModel } = require('billfish')
    const { createServer } = require('billfish/server')
    async function main() {
      const model = await loadModel(${JSON.stringify(join(installed, 'examples', 'demo-model'))})
      const server = await createServer(model, { port: 0 })
      const body = JSON.stringify({ messages: [{ role: 'user', content: 'Hello' }], max_tokens: 8 })
      const response = await fetch(server.url + '/v1/chat/completions', { method: 'POST', body })
      console.log(response.status, (await response.json()).object)
      await server.close()
      await model.dispose()
    }
    main()`,
  )
  const text = node('serve.cjs').trim()
  expect(text === '200 chat.completion', `it printed ${text}`)
})

checkRuntimes(project)
checkTools(project)

check('without an addon it says how to build one', () => {
  const scope = join(project, 'node_modules', '@billfish')
  renameSync(scope, join(project, 'hidden'))
  try {
    const code = 'try { require("billfish").devices() } catch (error) { console.log(error.code, error.message) }'
    const text = node('-e', code)
    expect(text.startsWith('ADDON_NOT_FOUND'), `it said: ${text}`)
    expect(text.includes('npx billfish-build'), `no way out in: ${text}`)
    const build = outputOf('npx', ['--no-install', 'billfish-build'], { cwd: project, code: 1 })
    expect(/npm install --save-dev cmake-js@[\d.]+/.test(build), `billfish-build said: ${build}`)
  } finally {
    renameSync(join(project, 'hidden'), scope)
  }
})

if (cuda) {
  check('the CUDA package is taken where it is installed, beside the one for the CPU', () => {
    install(packed.main.tarball, packed.cuda.tarball)
    const { package: name } = addonInUse()
    expect(name === '@billfish/linux-x64-cuda', `it uses ${name}`)
    return readFileSync(join(project, 'node_modules', name, 'package.json'), 'utf8').match(/"version": "(.*)"/)[1]
  })
} else {
  skip('the CUDA package is taken where it is installed', 'this build has no CUDA in it')
}

rmSync(folder, { recursive: true })
finish()
