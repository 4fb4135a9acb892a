// Makes a clone ready to run: installs packages, builds the addon, compiles TypeScript; each only when it is needed, and
// without a word when nothing is. `npm test` and `npm run demo` begin with it.
import { utimesSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative, nativeBuildNeeded } from './build-native.mjs'
import { buildTypeScript, typeScriptBuildNeeded } from './build-ts.mjs'
import { requireBuildTools, requireNode } from './requirements.mjs'
import { modified, root, run } from './steps.mjs'

requireNode()

const installed = join(root, 'node_modules', '.package-lock.json')
const installNeeded = modified(installed) < modified(join(root, 'package-lock.json'))
const buildNeeded = nativeBuildNeeded()
if (buildNeeded) requireBuildTools() // before the download of packages

if (installNeeded) {
  console.log('billfish: installing packages')
  run('npm', [modified(installed) === 0 ? 'ci' : 'install', '--no-audit', '--no-fund', '--loglevel=error'])
  const now = new Date()
  utimesSync(installed, now, now)
}
if (buildNeeded) {
  console.log('billfish: building the addon')
  buildNative()
}
if (typeScriptBuildNeeded()) {
  console.log('billfish: compiling TypeScript')
  buildTypeScript()
}
