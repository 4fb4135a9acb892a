// Compiles src/ to CommonJS in dist/, adds ES module entries to the same code (one instance of billfish whether it is
// required or imported), and rolls up the public types of each entry, as in dist/index.d.ts.
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { modified, newest, root, run } from './steps.mjs'

const dist = join(root, 'dist')
const declarations = join(root, 'build', 'types') // one a source, without what is @internal
/** What package.json exports, as names in src/ and dist/. The main entry is written last: its time is that of the build. */
const ENTRIES = ['server/index', 'index']
const typesEntry = join(dist, 'index.d.ts')
const entry = join(dist, 'index.mjs')

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
 * published package: ESM-only ones, which Node.js before 20.19 cannot require(), and jsonc-parser, whose CommonJS files
 * no bundler can follow.
 */
const BUNDLED = {
  'd3-scale': { used: '{ scaleLog }' },
  'jsonc-parser': { used: '{ findNodeAtLocation, parseTree }', from: 'jsonc-parser/lib/esm/main.js' },
  'string-width': { used: '{ default }' },
}

/** Removes the outputs of sources that no longer exist. */
function removeOrphans() {
  for (const file of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const path = join(file.parentPath ?? file.path, file.name)
    if (path.endsWith('.cjs')) continue // bundled
    const [name, ending] = relative(dist, path).split(/(\.d\.m?ts|\.mjs|\.js(?:\.map)?)$/)
    const isKept = /^\.js/.test(ending) ? existsSync(join(root, 'src', `${name}.ts`)) : ENTRIES.includes(name)
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
  for (const name of ENTRIES) {
    writeFileSync(join(dist, `${name}.d.mts`), "export * from './index.js'\n")
    writeFileSync(join(dist, `${name}.mjs`), `export { ${exportedNames(name).join(', ')} } from './index.js'\n`)
  }
}

/** Compiles without type checking, in half the time, and without public types. */
export async function compileTypeScript() {
  compile('--noCheck', '--declaration', 'false')
  removeOrphans()
  await bundlePackages()
  writeModuleFaces()
}

/** Compiles everything that is published. Ends the process on type errors. */
export async function buildTypeScript() {
  rmSync(declarations, { recursive: true, force: true })
  compile('--declarationDir', declarations)
  removeOrphans()
  await bundlePackages()
  for (const name of ENTRIES) await rollUpTypes(name)
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
  const folders = bundle.watchFiles.map((path) => /^.*node_modules[\\/](@[^\\/]+[\\/])?[^\\/]+/.exec(path)?.[0])
  const licenses = [...new Set(folders)].flatMap((folder) => (folder === undefined ? [] : licenseOf(folder)))
  await bundle.write({ file, format: 'cjs', exports: 'named', banner: `/*\n${licenses.join('\n\n')}\n*/` })
  await bundle.close()
}

/** The license text of a package, required in copies of its code. */
function licenseOf(folder) {
  const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name))
  return `${basename(folder)}\n\n${readFileSync(join(folder, file), 'utf8').trim()}`
}

/**
 * A single .d.ts for each entry: users' compilers see only what is public, and nothing else can be imported. What another
 * entry needs of the main one, it imports from there, since a class that is declared twice is two types.
 */
async function rollUpTypes(name) {
  const [{ rollup }, { dts }] = await Promise.all([import('rollup'), import('rollup-plugin-dts')])
  const folder = dirname(join(declarations, name))
  const main = posix.relative(dirname(name), 'index.js')
  const fromMain = {
    name: 'from-main',
    resolveId: (id, importer) =>
      name !== 'index' &&
      importer &&
      id.startsWith('.') &&
      relative(folder, join(dirname(importer), id)).startsWith('..')
        ? { id: main, external: 'relative' }
        : null,
  }
  const bundle = await rollup({
    input: join(declarations, `${name}.d.ts`),
    plugins: [fromMain, dts()],
    external: [/^node:/, /^[@a-z]/],
    onwarn: ({ message }) => {
      throw new Error(`${name}.d.ts cannot be rolled up: ${message}`)
    },
  })
  const { output } = await bundle.generate({ format: 'es' })
  await bundle.close()
  const types = exportAsTypes(output[0].code, name)
  const foreign = [...types.matchAll(/from '([^']+)'/g)].map((match) => match[1]).filter((from) => from !== main)
  if (foreign.length > 0) throw new Error(`${name}.d.ts imports ${foreign.join(', ')}, which users may not have`)
  mkdirSync(dirname(join(dist, name)), { recursive: true })
  writeFileSync(join(dist, `${name}.d.ts`), types)
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
