// Compiles src/ to CommonJS in dist/, adds ES module entries to the same code (one instance of billfish whether it is
// required or imported), rolls up the public types of each entry, as in dist/index.d.ts, and builds the server's page.
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { licensesOf } from './licenses.mjs'
import { modified, newest, root, run } from './steps.mjs'

const dist = join(root, 'dist')
const declarations = join(root, 'build', 'types') // one a source, without what is @internal
/** What package.json exports beside the main entry, as names in src/ and dist/. */
const FURTHER_ENTRIES = ['server/index', 'providers/ai-sdk/index']
const typesEntry = join(dist, 'index.d.ts')
const entry = join(dist, 'index.mjs') // written last: its time is the time of the build

const newestSource = () =>
  newest(['src', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build-ts.mjs'].map((name) => join(root, name)))

/** True when dist/ is missing or older than a source. */
export function typeScriptBuildNeeded() {
  return modified(entry) < newestSource()
}

/** The same for dist/index.d.ts, which is not needed to run billfish. */
export function typesBuildNeeded() {
  return modified(typesEntry) < newestSource()
}

/**
 * Packages that are bundled as CommonJS into dist/bundled/ with the exports used, and are not dependencies of the
 * published package: ESM-only ones, which Node.js before 20.19 cannot require(); jsonc-parser, whose CommonJS files no
 * bundler can follow; @ai-sdk/provider, of which two small classes are used, where the AI SDK is.
 */
const BUNDLED = {
  '@ai-sdk/provider': {
    used: '{ NoSuchModelError, UnsupportedFunctionalityError }',
    from: join(root, 'node_modules/@ai-sdk/provider/dist/index.mjs'), // its exports give require() CommonJS
  },
  'd3-scale': { used: '{ scaleLog }' },
  'jsonc-parser': { used: '{ findNodeAtLocation, parseTree }', from: 'jsonc-parser/lib/esm/main.js' },
  'string-width': { used: '{ default }' },
}

const isEntry = (name) => name === 'index' || FURTHER_ENTRIES.includes(name)

/** Removes the outputs of sources that no longer exist. */
function removeOrphans() {
  for (const file of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const path = join(file.parentPath ?? file.path, file.name)
    if (path.endsWith('.cjs') || path === join(dist, 'page', 'index.html')) continue // bundled
    const [name, ending] = relative(dist, path).split(/(\.d\.m?ts|\.mjs|\.js(?:\.map)?)$/)
    const isKept = /^\.js/.test(ending) ? existsSync(join(root, 'src', `${name}.ts`)) : isEntry(name)
    if (!isKept) rmSync(path)
  }
}

function compile(...options) {
  run(process.execPath, [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-p',
    'tsconfig.build.json',
    ...options,
  ])
}

/** The exports of an entry without __esModule, unlike export *. */
const exportedNames = (name) => Object.keys(createRequire(import.meta.url)(join(dist, `${name}.js`)))

function writeModuleFaces() {
  for (const name of [...FURTHER_ENTRIES, 'index']) {
    writeFileSync(join(dist, `${name}.d.mts`), "export * from './index.js'\n")
    writeFileSync(join(dist, `${name}.mjs`), `export { ${exportedNames(name).join(', ')} } from './index.js'\n`)
  }
}

/** Compiles without type checking, in half the time, and without public types. */
export async function compileTypeScript() {
  compile('--noCheck', '--declaration', 'false')
  removeOrphans()
  await bundlePackages()
  await buildPage()
  writeModuleFaces()
}

/** Compiles everything that is published. Ends the process on type errors. */
export async function buildTypeScript() {
  rmSync(declarations, { recursive: true, force: true })
  compile('--declarationDir', declarations)
  removeOrphans()
  await bundlePackages()
  await rollUpAllTypes()
  await buildPage()
  writeModuleFaces()
}

/** Bundles the packages of {@link BUNDLED}, and makes the compiled code require the bundles. */
async function bundlePackages() {
  const files = readdirSync(dist, { recursive: true }).filter((file) => file.endsWith('.js'))
  for (const [name, { used, from = name }] of Object.entries(BUNDLED)) {
    const bundle = `bundled/${name}.cjs`
    const sources = ['package-lock.json', 'scripts/build-ts.mjs'].map((path) => join(root, path))
    if (modified(join(dist, bundle)) < newest(sources)) await bundlePackage(from, used, join(dist, bundle))
    for (const file of files) {
      const code = readFileSync(join(dist, file), 'utf8')
      const path = posix.relative(dirname(file).replaceAll('\\', '/'), bundle)
      const own = path.startsWith('.') ? path : `./${path}` // else require() looks among packages
      if (code.includes(`require("${name}")`))
        writeFileSync(join(dist, file), code.replace(`require("${name}")`, `require("${own}")`))
    }
  }
}

async function bundlePackage(from, used, file) {
  const { rollup } = await import('rollup')
  const entry = join(root, 'package.json') // where the resolution of packages starts
  const packages = {
    name: 'packages',
    resolveId: (id, importer) => (/^[a-z]/.test(id) && importer ? createRequire(importer).resolve(id) : null),
    load: (id) => (id === entry ? `export ${used} from '${from}'` : null),
  }
  const bundle = await rollup({ input: entry, plugins: [packages], treeshake: { moduleSideEffects: false } })
  await bundle.write({ file, format: 'cjs', exports: 'named', banner: commentOf(licensesOf(bundle.watchFiles)) })
  await bundle.close()
}

function commentOf(text) {
  return text === '' ? '' : `/*\n${text}\n*/`
}

/** The page at / of `billfish serve`, one file: dist/page/index.html. */
async function buildPage() {
  const [{ build }, { default: config }] = await Promise.all([import('vite'), import('../src/page/vite.config.mjs')])
  await build(config)
}

/** Packages whose types are copied, since users may not have them. */
const COPIED_TYPES = ['@ai-sdk/provider', '@types/json-schema']

/**
 * A single .d.ts for each entry: users' compilers see only what is public, and nothing else can be imported. What is in the
 * main entry's file the others import from there, since a class that is declared twice is two types.
 */
async function rollUpAllTypes() {
  const main = await rollUpTypes('index')
  for (const name of FURTHER_ENTRIES) {
    const path = posix.relative(dirname(name), 'index.js')
    const fromMain = {
      name: 'from-main',
      resolveId: (id, importer) =>
        importer && id.startsWith('.') && main.sources.has(join(dirname(importer), `${id}.d.ts`))
          ? { id: path, external: true }
          : null,
    }
    const { types, imported } = await rollUpTypes(name, [fromMain], [path])
    const hidden = (imported[path] ?? []).filter((name) => !main.exported.includes(name))
    if (hidden.length > 0) throw new Error(`${name}.d.ts needs ${hidden.join(', ')}, which index.d.ts does not export`)
    mkdirSync(dirname(join(dist, name)), { recursive: true })
    writeFileSync(join(dist, `${name}.d.ts`), types)
  }
  writeFileSync(typesEntry, main.types)
}

/** The types of an entry, the names that they export, those that they import by module, and the files of all. */
async function rollUpTypes(name, plugins = [], known = []) {
  const [{ rollup }, { dts }] = await Promise.all([import('rollup'), import('rollup-plugin-dts')])
  const bundle = await rollup({
    input: join(declarations, `${name}.d.ts`),
    plugins: [...plugins, dts({ includeExternal: COPIED_TYPES })],
    external: /^node:/,
    onwarn: ({ message }) => {
      throw new Error(`${name}.d.ts cannot be rolled up: ${message}`)
    },
  })
  const { output } = await bundle.generate({ format: 'es', banner: commentOf(licensesOf(bundle.watchFiles)) })
  await bundle.close()
  const [{ code, exports: exported, importedBindings: imported }] = output
  const foreign = Object.keys(imported).filter((module) => !known.includes(module))
  if (foreign.length > 0) throw new Error(`${name}.d.ts imports ${foreign.join(', ')}, which users may not have`)
  return { types: exportAsTypes(code, name), exported, imported, sources: new Set(bundle.watchFiles) }
}

/**
 * The rolled-up types export every class as a value, even those that src/index.ts exports only as types: compilers would
 * accept `x instanceof Model`, which fails at run time.
 */
function exportAsTypes(types, name) {
  const [statement, list] = /^export \{ (.*) \};$/m.exec(types) ?? []
  if (statement === undefined) throw new Error(`${name}.d.ts exports no values where they were expected`)
  const [declared, values] = [list.split(', '), exportedNames(name)]
  const missing = values.filter((value) => !declared.includes(value))
  if (missing.length > 0) throw new Error(`${name}.d.ts does not export ${missing.join(', ')}`)
  const classes = declared.filter((value) => !values.includes(value))
  const asTypes = classes.length === 0 ? '' : `\nexport type { ${classes.join(', ')} };`
  return types.replace(
    statement,
    `export { ${declared.filter((value) => values.includes(value)).join(', ')} };${asTypes}`,
  )
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await buildTypeScript()
