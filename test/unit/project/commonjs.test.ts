import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
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

test('an import() is found, and the type of a module is not taken for one', () => {
  expect(dynamicImports("type T = typeof import('x')\nconst x = await import('x')")).toEqual([2])
})

// Compiled to CommonJS it would stay, and fail in vm contexts (Jest, vitest's vmThreads) that have no flag for it.
test('no source imports anything dynamically', () => {
  const found = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => dynamicImports(readFileSync(join(src, name), 'utf8')).map((line) => `${name}:${line}`))
  expect(found).toEqual([])
})
