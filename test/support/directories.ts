/** Temporary directories for tests. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach } from 'vitest'

const made: string[] = []
afterEach(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true })
})

/** A temporary directory with these files; objects are written as JSON. It is removed after the test. */
export function directoryOf(files: Readonly<Record<string, Buffer | string | object>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'billfish-test-'))
  made.push(directory)
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(directory, name, '..'), { recursive: true })
    const isRaw = typeof content === 'string' || Buffer.isBuffer(content)
    writeFileSync(join(directory, name), isRaw ? content : JSON.stringify(content))
  }
  return directory
}

/** An empty temporary directory. It is removed after the tests of the file, or of the `describe`, that asks for it. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'billfish-test-'))
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
