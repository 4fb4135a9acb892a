// Makes a clone ready to run: installs packages, builds the addon and compiles TypeScript, each only if needed, and
// silently if nothing is. `npm test` and `npm run demo` start with it.
//
//   node scripts/setup.mjs [emulator] [cuda]
//
// The arguments are parts of the addon that the caller requires; parts built earlier are kept.
import { utimesSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative, isConfigured, nativeBuildNeeded } from './build-native.mjs'
import { compileTypeScript, typeScriptBuildNeeded } from './build-ts.mjs'
import { requireBuildTools, requireNode } from './requirements.mjs'
import { modified, root, run } from './steps.mjs'

requireNode()

if (!isConfigured()) process.env.BILLFISH_UNITY ||= 'on' // someone is waiting for the first build
for (const part of process.argv.slice(2)) process.env[`BILLFISH_${part.toUpperCase()}`] ||= 'on'

const installed = join(root, 'node_modules', '.package-lock.json')
const installNeeded = modified(installed) < modified(join(root, 'package-lock.json'))
const buildNeeded = nativeBuildNeeded()
if (buildNeeded) requireBuildTools() // before the download of packages

if (installNeeded) {
  console.log('billfish: installing packages')
  run('npm', [
    modified(installed) === 0 ? 'ci' : 'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ])
  const now = new Date()
  utimesSync(installed, now, now)
}
if (buildNeeded) {
  console.log('billfish: building the addon')
  buildNative()
}
if (typeScriptBuildNeeded()) {
  console.log('billfish: compiling TypeScript')
  await compileTypeScript() // types are checked by `npm run typecheck` and `npm run build`
}
