import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EXIT_CODES } from '../../../src/cli/program'
import { generationConfigKeys } from '../../../src/generation/generation-config-keys'
import { modelConfigKeys } from '../../../src/models/config-keys'
import { scratchDirectory } from '../../support/directories'
import { billfish } from '../../support/programs'

const root = resolve(__dirname, '../../..')
const scratch = scratchDirectory()

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

it('docs/config-keys.md has every key of both files with its effect', async () => {
  const file = join(root, 'docs/config-keys.md')
  let text = readFileSync(file, 'utf8')
  for (const [name, keys] of [
    ['config.json', modelConfigKeys],
    ['generation_config.json', generationConfigKeys],
  ] as const) {
    const rows = Object.entries<{ treatment: string; note: string }>(keys).map(
      ([key, { treatment, note }]) => `| \`${key}\` | ${treatment} | ${note} |`,
    )
    const table = ['| key | | |', '|---|---|---|', ...rows].join('\n')
    const place = new RegExp(
      `(?<=^## ${name.replace('.', '\\.')}\\n[\\s\\S]*?)^\\|[\\s\\S]*?(?=\\n\\n|\\n*$(?![\\s\\S]))`,
      'm',
    )
    expect(text).toMatch(place)
    text = text.replace(place, () => table)
  }
  await expect(text).toMatchFileSnapshot(file)
})

describe('links between documents', () => {
  const documents = ['.', 'docs', 'bench', 'cuda', 'packages'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: folder !== '.', withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.md') && !entry.parentPath.includes('node_modules'))
      .map((entry) => relative(root, join(entry.parentPath, entry.name))),
  )
  const headings = new Map<string, ReadonlySet<string>>()
  const anchorsOf = (file: string) => {
    const known = headings.get(file) ?? anchors(readFileSync(file, 'utf8'))
    headings.set(file, known)
    return known
  }

  it.each(documents)('%s', (name) => {
    const file = join(root, name)
    const text = readFileSync(file, 'utf8').replace(/^```[\s\S]*?^```/gm, '')
    const broken = [...text.matchAll(/\]\(([^)#\s]*)(?:#([^)\s]*))?\)/g)].filter(([, path = '', anchor]) => {
      if (path.includes(':')) return false
      const target = path === '' ? file : join(dirname(file), path)
      return !existsSync(target) || (anchor !== undefined && target.endsWith('.md') && !anchorsOf(target).has(anchor))
    })
    expect(broken.map(([link]) => link)).toEqual([])
  })
})

/** The anchors that GitHub gives a document's headings, and those that it sets itself. */
function anchors(text: string): Set<string> {
  const found = new Set<string>()
  const counts = new Map<string, number>()
  for (const [, heading = ''] of text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)) {
    const plain = heading.replace(/\\/g, '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    const slug = plain
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_\- ]/gu, '')
      .replaceAll(' ', '-')
    const count = counts.get(slug) ?? 0
    counts.set(slug, count + 1)
    found.add(count === 0 ? slug : `${slug}-${count}`)
  }
  for (const [, id = ''] of text.matchAll(/<a id="([^"]+)">/g)) found.add(id)
  return found
}

/**
 * The text with every command and its output as the command prints it now. A block may hold several commands, each of
 * which may end in `| head -N`, `| tail -N` or `| grep TEXT`.
 */
async function withFreshOutputs(text: string): Promise<string> {
  const parts: string[] = []
  let end = 0
  for (const block of text.matchAll(/(?<=^```console\n)\$ billfish [\s\S]*?(?=^```$)/gm)) {
    parts.push(text.slice(end, block.index))
    for (const [, command = ''] of block[0].matchAll(/^\$ billfish (.+)$/gm)) {
      const [line = '', filter] = command.split(' | ')
      parts.push(`$ billfish ${command}\n${filtered(await outputOf(line), filter)}`)
    }
    end = block.index + block[0].length
  }
  return [...parts, text.slice(end)].join('')
}

/** What `head`, `tail` and `grep` leave of an output. */
function filtered(output: string, filter: string | undefined): string {
  if (filter === undefined) return output
  const lines = output.split(/(?<=\n)/)
  const [, command, argument = ''] = /^(head|tail|grep) -?(\S+)$/.exec(filter) ?? []
  switch (command) {
    case 'head':
      return lines.slice(0, Number(argument)).join('')
    case 'tail':
      return lines.slice(-Number(argument)).join('')
    case 'grep':
      return lines.filter((line) => new RegExp(argument).test(line)).join('')
    default:
      throw new Error(`the documents show the output of "| ${filter}", which this test cannot compute`)
  }
}

/** Runs a command; a picture that it draws is compared with the one that the documents have. */
async function outputOf(command: string): Promise<string> {
  const words = [...command.matchAll(/'([^']*)'|\S+/g)].map(([word, quoted]) => quoted ?? word)
  const picture = words.indexOf('--svg') + 1
  const shown = words[picture]
  const drawn = join(scratch, 'plan.svg')
  const { code, stdout, stderr } = await billfish(words.map((word, i) => (picture > 0 && i === picture ? drawn : word)))
  const fits = !stdout.includes('It does not fit')
  expect({ code, stderr }, command).toEqual({ code: fits ? EXIT_CODES.ok : EXIT_CODES.error, stderr: '' })
  if (picture > 0 && shown) await expect(readFileSync(drawn, 'utf8')).toMatchFileSnapshot(join(root, shown))
  return stdout
}
