// Compiles src/ to CommonJS and types in dist/, and adds the ES module face of the same code: one instance of billfish
// whether it is required or imported.
import { existsSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { modified, newest, root, run } from './steps.mjs'

const dist = join(root, 'dist')
const entry = join(dist, 'index.mjs') // written last: its time is the time of the build

/** True when dist/ is missing or older than a source. */
export function typeScriptBuildNeeded() {
  const sources = ['src', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build-ts.mjs'].map((name) =>
    join(root, name),
  )
  return modified(entry) < newest(sources)
}

/** Removes what an earlier build made from sources that are gone. */
function removeOrphans() {
  for (const file of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const path = join(file.parentPath ?? file.path, file.name)
    const source = relative(dist, path).replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts')
    if (path.endsWith('.mjs') || path.endsWith('.mts')) continue
    if (!existsSync(join(root, 'src', source))) rmSync(path)
  }
}

/**
 * Runs tsc and writes the ES module face. Ends the process when a type is wrong, unless types are not checked, which takes
 * a third of the time.
 */
export function buildTypeScript({ check = true } = {}) {
  const options = ['-p', 'tsconfig.build.json', ...(check ? [] : ['--noCheck'])]
  run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), ...options])
  removeOrphans()
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js'\n")
  const names = Object.keys(createRequire(import.meta.url)(join(dist, 'index.js'))) // without __esModule, unlike export *
  writeFileSync(entry, `export { ${names.join(', ')} } from './index.js'\n`)
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) buildTypeScript()
