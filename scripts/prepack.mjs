// Run by npm before packing the clone, and with the argument `publish` before publishing it: refuses to pack a build that
// is missing or older than its sources.
import { join } from 'node:path'
import { typeScriptBuildNeeded, typesBuildNeeded } from './build-ts.mjs'
import { modified, root } from './steps.mjs'

function problem() {
  if (process.argv[2] === 'publish') {
    return 'a clone is not published: npm run packages assembles billfish and its platform packages in build/packages, and says how to publish them.'
  }
  if (modified(join(root, 'dist', 'index.js')) === 0) return 'dist/ is not built. Run: npm run build:ts'
  if (typeScriptBuildNeeded()) return 'dist/ is older than its sources. Run: npm run build:ts'
  if (typesBuildNeeded()) return 'dist/index.d.ts is missing or older than its sources. Run: npm run build:ts'
  return undefined
}

const found = problem()
if (found !== undefined) {
  console.error(`billfish: ${found}`)
  process.exit(1)
}
