// Compiles src/ to CommonJS in dist/, adds the ES module face of the same code (one instance of billfish whether it is
// required or imported), and rolls the public types up in dist/index.d.ts.
import { existsSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
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

/** The same of dist/index.d.ts, which running billfish does not need. */
export function typesBuildNeeded() {
  return modified(typesEntry) < newestSource()
}

/** Removes what an earlier build made from sources that are gone. */
function removeOrphans() {
  for (const file of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const path = join(file.parentPath ?? file.path, file.name)
    if (path.endsWith('.mjs') || path.endsWith('.mts') || path === typesEntry) continue
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

/** What dist/index.js exports; without __esModule, unlike export *. */
const exportedNames = () => Object.keys(createRequire(import.meta.url)(join(dist, 'index.js')))

function writeModuleFace() {
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js'\n")
  writeFileSync(entry, `export { ${exportedNames().join(', ')} } from './index.js'\n`)
}

/** Compiles without a look at types, in half the time, and without index.d.ts. */
export function compileTypeScript() {
  compile('--noCheck', '--declaration', 'false')
  removeOrphans()
  writeModuleFace()
}

/** Compiles all that is published. Ends the process when a type is wrong. */
export async function buildTypeScript() {
  rmSync(declarations, { recursive: true, force: true })
  compile('--declarationDir', declarations)
  removeOrphans()
  await rollUpTypes()
  writeModuleFace()
}

/** One index.d.ts: what users' compilers read is what is public, and nothing can be imported past it. */
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
 * The rolled-up types export every class as a value, also those that src/index.ts exports as types alone: compilers
 * would take `x instanceof Model`, which then fails.
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
