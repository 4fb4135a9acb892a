import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodes } from '../../../src/cli/program'
import { generationConfigKeys } from '../../../src/generation/generation-config-keys'
import { modelConfigKeys } from '../../../src/models/config-keys'
import { billfish } from '../../support/cli'

const root = resolve(__dirname, '../../..')
let scratch = ''
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'billfish-docs-'))
})
afterAll(() => rmSync(scratch, { recursive: true }))

// `npx vitest run docs --update` writes what the program prints now into the documents, pictures included.
describe.each(['README.md', 'docs/placement.md', 'docs/tensor-parallelism.md', 'docs/padding.md'])('%s', (name) => {
  it('shows what the program prints', async () => {
    const file = join(root, name)
    const text = readFileSync(file, 'utf8')
    const fresh = await withFreshOutputs(text)
    expect(fresh).toContain('```console\n$ billfish ')
    await expect(fresh).toMatchFileSnapshot(file)
  })
})

describe('docs/config-keys.md', () => {
  it.each([
    ['config.json', modelConfigKeys],
    ['generation_config.json', generationConfigKeys],
  ])('has every key of %s, and what becomes of it', async (name, keys) => {
    const file = join(root, 'docs/config-keys.md')
    const rows = Object.entries<{ treatment: string; note: string }>(keys).map(
      ([key, { treatment, note }]) => `| \`${key}\` | ${treatment} | ${note} |`,
    )
    const table = ['| key | | |', '|---|---|---|', ...rows].join('\n')
    const text = readFileSync(file, 'utf8')
    const place = new RegExp(
      `(?<=^## ${name.replace('.', '\\.')}\\n[\\s\\S]*?)^\\|[\\s\\S]*?(?=\\n\\n|\\n*$(?![\\s\\S]))`,
      'm',
    )
    expect(text).toMatch(place)
    await expect(text.replace(place, () => table)).toMatchFileSnapshot(file)
  })
})

/** The text with every block of a command and its output as the command prints it now. */
async function withFreshOutputs(text: string): Promise<string> {
  const parts: string[] = []
  let end = 0
  for (const block of text.matchAll(/^```console\n\$ billfish (.+)\n[\s\S]*?^```$/gm)) {
    const [whole, command = ''] = block
    const output = await outputOf(command)
    parts.push(text.slice(end, block.index), `\`\`\`console\n$ billfish ${command}\n${output}\`\`\``)
    end = block.index + whole.length
  }
  return [...parts, text.slice(end)].join('')
}

/** Runs a command; a picture that it draws is compared with the one that the documents have. */
async function outputOf(command: string): Promise<string> {
  const words = [...command.matchAll(/'([^']*)'|\S+/g)].map(([word, quoted]) => quoted ?? word)
  const picture = words.indexOf('--svg') + 1
  const shown = words[picture]
  const drawn = join(scratch, 'plan.svg')
  const { code, stdout, stderr } = await billfish(words.map((word, i) => (picture > 0 && i === picture ? drawn : word)))
  const fits = !stdout.includes('It does not fit')
  expect({ code, stderr }, command).toEqual({ code: fits ? exitCodes.ok : exitCodes.error, stderr: '' })
  if (picture > 0 && shown) await expect(readFileSync(drawn, 'utf8')).toMatchFileSnapshot(join(root, shown))
  return stdout
}
