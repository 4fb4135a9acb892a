/** docs/environment.md names every environment variable and every code of a warning that the sources know. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const root = join(__dirname, '../../..')

function* sources(...folders: string[]): Generator<string> {
  for (const folder of folders) {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true, recursive: true })) {
      if (!entry.isFile() || !/\.(ts|mjs|cjs|cc|cu|h|txt)$/.test(entry.name)) continue
      yield readFileSync(join(entry.parentPath, entry.name), 'utf8')
    }
  }
}

function found(patterns: readonly RegExp[], ...folders: string[]): string[] {
  const names = new Set<string>()
  for (const text of sources(...folders)) {
    for (const pattern of patterns) for (const [, name] of text.matchAll(pattern)) names.add(name as string)
  }
  return [...names].sort()
}

/** The first column of the tables of a page's sections. */
function documented(isWarning: boolean): string[] {
  const page = readFileSync(join(root, 'docs', 'environment.md'), 'utf8')
  const [variables = '', warnings = ''] = page.split('## Process warnings')
  return [...(isWarning ? warnings : variables).matchAll(/^\| `(BILLFISH_\w+)`/gm)]
    .map(([, name]) => name as string)
    .sort()
}

it('names every environment variable', () => {
  const reads = [/getenv\("(BILLFISH_\w+)"\)/g, /process\.env\.(BILLFISH_\w+)/g, /^ {2,}?(BILLFISH_\w+)=/gm]
  const inSources = found(reads, 'src', 'binding', 'cuda', 'scripts', 'test/native', 'test/goldens')
  const options = readFileSync(join(root, 'scripts/build-native.mjs'), 'utf8').matchAll(/^\/\/ {3}(BILLFISH_\w+)=/gm)
  const all = new Set([...inSources, ...[...options].map(([, name]) => name as string)])
  expect(all.size).toBeGreaterThan(12)
  expect(documented(false)).toEqual([...all].sort())
})

it('names every code of a process warning', () => {
  const codes = found([/\bcode: '(BILLFISH_\w+)'/g], 'src')
  expect(codes.length).toBeGreaterThan(2)
  expect(documented(true)).toEqual(codes)
})
