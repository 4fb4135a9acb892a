import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const src = join(__dirname, '../../..', 'src')

/** Line numbers of the `import()` expressions of a source; types such as `import('x').Y` are none. */
function dynamicImports(text: string): number[] {
  const source = ts.createSourceFile('source.ts', text, ts.ScriptTarget.Latest, true)
  const lines: number[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      lines.push(source.getLineAndCharacterOfPosition(node.getStart()).line + 1)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return lines
}

/** The `type` in the package.json that counts for a file: the nearest one. */
function typeOf(file: string): unknown {
  const folder = dirname(file)
  const own = join(folder, 'package.json')
  return existsSync(own) ? JSON.parse(readFileSync(own, 'utf8')).type : typeOf(folder)
}

test('an import() is found, and the type of a module is not mistaken for one', () => {
  expect(dynamicImports("type T = typeof import('x')\nconst x = await import('x')")).toEqual([2])
})

// Compiled to CommonJS it would stay, and fail in vm contexts (Jest, vitest's vmThreads) that have no flag for it.
test('no source imports anything dynamically', () => {
  const found = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => dynamicImports(readFileSync(join(src, name), 'utf8')).map((line) => `${name}:${line}`))
  expect(found).toEqual([])
})

// Node.js before 20.19 cannot require() them: scripts/build-ts.mjs bundles those that it names.
test('the compiled code requires no ESM-only package', () => {
  const dist = join(src, '..', 'dist')
  const required = readdirSync(dist, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.c?js$/.test(name))
    .flatMap((name) => [...readFileSync(join(dist, name), 'utf8').matchAll(/\brequire\(["']([@\w][^"']*)["']\)/g)])
    .map(([, name = '']) => name)
    .filter((name) => !name.startsWith('node:'))
  expect(required).toContain('zod')
  const fromDist = createRequire(join(dist, 'index.js'))
  const modules = [...new Set(required)].filter((name) => {
    const file = fromDist.resolve(name)
    return typeOf(file) === 'module' && !file.endsWith('.cjs')
  })
  expect(modules).toEqual([])
})
