import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const SRC = join(__dirname, '../../../src')

/** The rooms of src/ (folders, and files beside them), each of which imports only from those above it. */
const ROOMS = [
  'common',
  'options',
  'native',
  'chat',
  'checkpoint',
  'hub',
  'quantization',
  'open-checkpoint',
  'models',
  'placement',
  'pipeline',
  'generation',
  'devices',
  'this-machine',
  'padding',
  'tokenizer',
  'embedding',
  'model-state',
  'loaded-stages',
  'model',
  'load',
  'plan',
  'named-models',
  'benchmark',
  'pictures',
  'providers',
  'server',
  'page',
  'cli',
  'index',
]

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.tsx?$/.test(name))
  .sort()

/** What each file imports or exports from, types included. */
const imports = new Map(
  files.map((file): [string, string[]] => {
    const code = readFileSync(join(SRC, file), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '')
    const targets = [...code.matchAll(/^(?:import|export)\b[^'";]*?\bfrom '(\.[^']+)'/gm)].map(([, specifier = '']) => {
      const path = relative(SRC, join(SRC, dirname(file), specifier))
      const found = [`${path}.ts`, `${path}.tsx`, join(path, 'index.ts')].find((candidate) => files.includes(candidate))
      if (found === undefined) throw new Error(`src/${file} imports ${specifier}, which is not in src`)
      return found
    })
    return [file, [...new Set(targets)]]
  }),
)

function roomOf(file: string): string {
  return file.replace(/(\/|\.ts$).*/, '')
}

/** A path from a file back to itself, if there is one. */
function cycleThrough(file: string): string[] | undefined {
  const previous = new Map<string, string>()
  const queue = [file]
  for (const current of queue) {
    for (const next of imports.get(current) ?? []) {
      if (next === file) {
        const path = [file]
        for (let at: string | undefined = current; at !== undefined; at = previous.get(at)) path.unshift(at)
        return path
      }
      if (previous.has(next)) continue
      previous.set(next, current)
      queue.push(next)
    }
  }
  return undefined
}

describe('imports in src', () => {
  test('are found at all', () => {
    expect(imports.get('load.ts')).toContain('models/registry.ts')
  })

  test('have no cycles between files', () => {
    const cycles = files.flatMap((file) => cycleThrough(file)?.join(' -> ') ?? [])
    expect(cycles).toEqual([])
  })

  test('lead from the main entry to none of the others', () => {
    const reached = new Set(['index.ts'])
    for (const file of reached) for (const next of imports.get(file) ?? []) reached.add(next)
    expect(reached).toContain('models/registry.ts')
    expect([...reached].filter((file) => ['server', 'providers', 'cli'].includes(roomOf(file)))).toEqual([])
  })

  test('only go up the list of folders', () => {
    const wrong = files.flatMap((file) =>
      (imports.get(file) ?? [])
        .filter((target) => roomOf(target) !== roomOf(file))
        .filter((target) => ROOMS.indexOf(roomOf(target)) >= ROOMS.indexOf(roomOf(file)))
        .map((target) => `${file} -> ${target}`),
    )
    expect(wrong).toEqual([])
    expect(new Set(files.map(roomOf))).toEqual(new Set(ROOMS))
  })
})
