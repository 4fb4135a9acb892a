// Compiles src/ to CommonJS in dist/, adds an ES module entry to the same code (one instance of billfish whether it is
// required or imported), and rolls up the public types in dist/index.d.ts.
import { existsSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { modified, newest, root, run } from './steps.mjs'

const dist = join(root, 'dist')
const declarations = join(root, 'build', 'types') // one a source, without what is @internal
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
    if (path.endsWith('.mjs') || path.endsWith('.mts') || path === typesEntry) continue
    if (path.endsWith('.cjs')) continue // bundled
    const source = relative(dist, path).replace(/\.js(\.map)?$/, '.ts')
    if (path.endsWith('.d.ts') || !existsSync(join(root, 'src', source))) rmSync(path)
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

/** The exports of dist/index.js without __esModule, unlike export *. */
const exportedNames = () => Object.keys(createRequire(import.meta.url)(join(dist, 'index.js')))

function writeModuleFace() {
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js'\n")
  writeFileSync(entry, `export { ${exportedNames().join(', ')} } from './index.js'\n`)
}

/** Compiles without type checking, in half the time, and without index.d.ts. */
export async function compileTypeScript() {
  compile('--noCheck', '--declaration', 'false')
  removeOrphans()
  await bundlePackages()
  writeModuleFace()
}

/** Compiles everything that is published. Ends the process on type errors. */
export async function buildTypeScript() {
  rmSync(declarations, { recursive: true, force: true })
  compile('--declarationDir', declarations)
  removeOrphans()
  await bundlePackages()
  await rollUpTypes()
  writeModuleFace()
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

/** A single index.d.ts: users' compilers see only what is public, and nothing else can be imported. */
async function rollUpTypes() {
  const [{ rollup }, { dts }] = await Promise.all([import('rollup'), import('rollup-plugin-dts')])
  const bundle = await rollup({
    input: join(declarations, 'index.d.ts'),
    plugins: [dts()],
    external: [/^node:/, /^[@a-z]/],
    onwarn: ({ message }) => {
      throw new Error(`index.d.ts cannot be rolled up: ${message}`)
    },
  })
  await bundle.write({ file: typesEntry, format: 'es' })
  await bundle.close()
  const types = exportAsTypes(readFileSync(typesEntry, 'utf8'))
  writeFileSync(typesEntry, types)
  const foreign = [...types.matchAll(/from '([^']+)'/g)].map((match) => match[1])
  if (foreign.length > 0) throw new Error(`index.d.ts imports ${foreign.join(', ')}, which users may not have`)
}

/**
 * The rolled-up types export every class as a value, even those that src/index.ts exports only as types: compilers would
 * accept `x instanceof Model`, which fails at run time.
 */
function exportAsTypes(types) {
  const [statement, list] = /^export \{ (.*) \};$/m.exec(types) ?? []
  if (statement === undefined) throw new Error('index.d.ts exports no values where they were expected')
  const [declared, values] = [list.split(', '), exportedNames()]
  const missing = values.filter((name) => !declared.includes(name))
  if (missing.length > 0) throw new Error(`index.d.ts does not export ${missing.join(', ')}`)
  const classes = declared.filter((name) => !values.includes(name))
  const asTypes = classes.length === 0 ? '' : `\nexport type { ${classes.join(', ')} };`
  return types.replace(
    statement,
    `export { ${declared.filter((name) => values.includes(name)).join(', ')} };${asTypes}`,
  )
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await buildTypeScript()
