import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(__dirname, '../../..')

test('every code that native code throws is one of ErrorCode', () => {
  const union =
    /export type ErrorCode =([\s\S]*?)\n\n/.exec(readFileSync(join(root, 'src/common/errors.ts'), 'utf8'))?.[1] ?? ''
  const codes = [...union.matchAll(/^ {2}\| '([A-Z_]+)'/gm)].map(([, code]) => code as string)
  expect(codes).toContain('INVALID_CHECKPOINT')
  const thrown = new Map<string, string>()
  for (const directory of ['binding', 'cuda']) {
    for (const file of readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })) {
      if (!/\.(cc|cu|h|cuh)$/.test(file)) continue
      const text = readFileSync(join(root, directory, file), 'utf8')
      for (const [, code] of text.matchAll(/\bError[({]\s*"([^"]*)"/g))
        thrown.set(code as string, join(directory, file))
    }
  }
  expect(thrown.size).toBeGreaterThan(5)
  // What is aborted rejects with the signal's reason, whatever native code calls it.
  const unknown = [...thrown].filter(([code]) => code !== 'ABORTED' && !codes.includes(code))
  expect(unknown).toEqual([])
})
