import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Node, parseTree } from 'jsonc-parser'
import { describe, expect, it } from 'vitest'
import { TemplateSyntaxError } from '../../../src/chat/jinja/errors'
import { compileTemplate, renderTemplate } from '../../../src/chat/jinja/template'
import { Dict } from '../../../src/chat/jinja/values/dict'
import { parseJsonNumber } from '../../../src/chat/jinja/values/from-javascript'
import type { Value } from '../../../src/chat/jinja/values/values'

interface Construct {
  readonly id: string
  readonly template: string
  readonly context: unknown
  readonly output?: string
  readonly error?: { readonly type: string; readonly message?: string; readonly when: 'compile' | 'render' }
}

const LIMITS = { steps: 2_000_000, bytes: 64 * 1024 * 1024, depth: 200, milliseconds: 10_000 }

/** JSON as Python reads it: numbers with a point or an exponent are floats, all others ints of any size. */
function pythonValue(node: Node, text: string): Value {
  switch (node.type) {
    case 'object':
      return Dict.fromEntries(
        (node.children ?? []).map(({ children: [key, value] = [] }) => [key?.value, pythonValue(value as Node, text)]),
      )
    case 'array':
      return (node.children ?? []).map((item) => pythonValue(item, text))
    case 'number':
      return parseJsonNumber(text.slice(node.offset, node.offset + node.length))
    default:
      return node.value
  }
}

/** The constructs of a file in test/fixtures/jinja, with their contexts as Python would read them. */
function constructs(file: string): [id: string, construct: Construct, context: Dict][] {
  const text = readFileSync(join(__dirname, '../../fixtures/jinja', file), 'utf8')
  const { entries } = JSON.parse(text) as { entries: Construct[] }
  const values = (pythonValue(parseTree(text) as Node, text) as Dict).getText('entries') as Dict[]
  return entries.map((entry, index) => [entry.id, entry, values[index]?.getText('context') as Dict])
}

function render(template: string, context: Dict): string {
  const variables = new Map([...context.entries()].map(([name, value]) => [String(name), value]))
  return renderTemplate(compileTemplate(template, LIMITS), variables, LIMITS)
}

describe.each(['constructs.json', 'combinations.json'])('%s, as Jinja2 renders it', (file) => {
  it.each(constructs(file))('%s', (_id, { template, output, error }, context) => {
    if (error === undefined) {
      expect(render(template, context)).toBe(output)
    } else if (error.when === 'compile') {
      expect(() => compileTemplate(template, LIMITS)).toThrowError(TemplateSyntaxError)
    } else {
      const compiled = compileTemplate(template, LIMITS)
      expect(compiled).toBeDefined()
      const expected = { type: error.type, ...(error.message !== undefined && { message: error.message }) }
      expect(() => render(template, context)).toThrowError(expect.objectContaining(expected))
    }
  })
})
