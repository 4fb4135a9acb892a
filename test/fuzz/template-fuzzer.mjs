/**
 * Renders damaged chat templates. Whatever the damage: a text comes out, or a BillfishError; nothing else is thrown, nothing
 * takes long.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Random } from './random.mjs'

const MAX_MILLISECONDS = 2000
const REFUSALS = ['INVALID_CHECKPOINT', 'INVALID_OPTION']

/** What harms most where it is put anywhere. */
const PIECES = [
  ...[
    '{%',
    '%}',
    '{{',
    '}}',
    '{#',
    '#}',
    '-',
    '~',
    '|',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    ',',
    ':',
    '=',
    '.',
    "'",
    '"',
    '\\',
  ],
  ...['{% for i in range(100000) %}', '{% endfor %}', '{% if ', '{% else %}', '{% endif %}', '{% set x = x ~ x %}'],
  ...['{% macro m(a) %}{{ m(a ~ a) }}{% endmacro %}{{ m("a") }}', '{% raw %}', '{% endraw %}', '{% generation %}'],
  ...[
    ' * 10 ** 9',
    ' ** 99999',
    '|join("x" * 100000)',
    '|indent(1000000)',
    '|center(10 ** 9)',
    '.format(1)',
    '|tojson',
  ],
  ...[
    'loop.index',
    'loop(messages)',
    ' recursive',
    'namespace()',
    'messages',
    'tools',
    'none',
    'true',
    '[0]',
    '[::-1]',
  ],
  ...['"%*d" % (10 ** 9, 1)', 'range(10 ** 18)', 'dict(a=1)', '"\\ud800"', '\u0000', '\u{1f600}', '\r\n', '((((((((('],
  ...['|map("upper")|list', '|sort', '|unique', '|groupby("role")', '|batch(2)', '|replace("", "x")', '|wordwrap(1)'],
]

/** Templates of all checkpoints in the folder, and of a table of constructs. */
export function templatesOf(models, constructs) {
  const sources = []
  for (const name of readdirSync(models)) {
    try {
      const config = JSON.parse(readFileSync(join(models, name, 'tokenizer_config.json'), 'utf8'))
      if (typeof config.chat_template === 'string') sources.push(config.chat_template)
    } catch {
      // one without a tokenizer
    }
  }
  const table = JSON.parse(readFileSync(constructs, 'utf8'))
  for (const { template } of table.entries ?? table.constructs ?? table) sources.push(template)
  return sources
}

function mutate(source, sources, random) {
  let text = source
  for (let count = random.pick([1, 1, 2, 3, 8]); count > 0; count--) {
    const at = random.below(text.length + 1)
    const length = random.pick([1, 3, 10, 50])
    switch (random.below(6)) {
      case 0:
        text = text.slice(0, at) + text.slice(at + length)
        break
      case 1:
        text = text.slice(0, at) + random.pick(PIECES) + text.slice(at)
        break
      case 2:
        text = text.slice(0, at) + text.slice(at, at + length).repeat(random.pick([2, 3, 100])) + text.slice(at)
        break
      case 3: {
        const other = random.pick(sources)
        const start = random.below(other.length + 1)
        text = text.slice(0, at) + other.slice(start, start + random.pick([10, 100, 1000])) + text.slice(at)
        break
      }
      case 4:
        text = text.replace(/\d+/, () => random.pick(['0', '-1', '1e9', '99999999999999999999', '1000000']))
        break
      default:
        text = text.slice(0, at) + String.fromCharCode(random.below(random.pick([128, 65536]))) + text.slice(at + 1)
    }
  }
  return text
}

const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'What is 17 + 25?' },
  { role: 'assistant', content: '', tool_calls: [{ function: { name: 'add', arguments: { a: 17, b: 25.0 } } }] },
  { role: 'tool', content: '42' },
  { role: 'user', content: 'Thanks \u{1f600}' },
]
const tools = [{ type: 'function', function: { name: 'add', parameters: { type: 'object', properties: {} } } }]

/**
 * @param options.sources - templates to damage
 * @param options.render - renders a source with messages and options; may return a promise
 * @param options.seed - with a case's number, makes the case
 * @param options.more - told the number of cases done; cases go on while it says true
 * @returns how many cases ran, how many of them rendered, and how long the slowest took
 * @throws an Error that tells how to run the failing case again
 */
export async function fuzzTemplates({ sources, render, seed, first = 0, more }) {
  let cases = 0
  let rendered = 0
  let slowest = 0
  while (more(cases)) {
    const number = first + cases
    const random = new Random(Math.imul(seed, 0x9e3779b1) ^ number)
    const text = mutate(random.pick(sources), sources, random)
    const start = performance.now()
    try {
      try {
        await render(text, messages, random.chance(0.5) ? { tools } : {})
        rendered++
      } catch (error) {
        const isRefusal = error?.name === 'BillfishError' && REFUSALS.includes(error.code)
        if (!isRefusal || error.message.length > 4000) throw error
      }
      const milliseconds = performance.now() - start
      slowest = Math.max(slowest, milliseconds)
      if (milliseconds > MAX_MILLISECONDS) throw new Error(`it took ${Math.round(milliseconds)} ms`)
    } catch (error) {
      const what = `Case ${number} with seed ${seed} failed: ${String(error?.stack ?? error).slice(0, 2000)}`
      throw new Error(`${what}\n${JSON.stringify(text)}`, { cause: error })
    }
    cases++
  }
  return { cases, rendered, slowest }
}
