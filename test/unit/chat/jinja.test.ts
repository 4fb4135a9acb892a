import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { TemplateSyntaxError } from '../../../src/chat/jinja/errors'
import { compileTemplate, renderTemplate } from '../../../src/chat/jinja/template'
import type { Dict } from '../../../src/chat/jinja/values/dict'
import { parseJsonValue } from '../support/python-json'

interface Construct {
  readonly id: string
  readonly template: string
  readonly context: unknown
  readonly output?: string
  readonly error?: { readonly type: string; readonly message?: string; readonly when: 'compile' | 'render' }
}

const LIMITS = { steps: 2_000_000, bytes: 64 * 1024 * 1024, depth: 200, milliseconds: 10_000 }

/** The constructs of a file in test/fixtures/jinja, with their contexts as Python would read them. */
function constructs(file: string): [id: string, construct: Construct, context: Dict][] {
  const text = readFileSync(join(__dirname, '../../fixtures/jinja', file), 'utf8')
  const { entries } = JSON.parse(text) as { entries: Construct[] }
  const values = (parseJsonValue(text) as Dict).getText('entries') as Dict[]
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
