import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fromJavaScript } from '../../src/chat/jinja/values/from-javascript'
import {
  EVENT_LOOP_LIMITS,
  SYNCHRONOUS_LIMITS,
  TemplateCache,
  type TemplateSource,
  toRendering,
} from '../../src/generation/template-rendering'
import { TextWorker } from '../../src/generation/text-worker'
import { Random } from '../support/random.cjs'

const LOOP = '{% for a in range(100000) %}'
const loops = (depth: number, body: string) => LOOP.repeat(depth) + body + '{% endfor %}'.repeat(depth)
const doubling = (start: string, double: string, times: number, end: string) =>
  `{% set ns = namespace(x=${start}) %}{% for i in range(${times}) %}{% set ns.x = ${double} %}{% endfor %}${end}`

/** What a checkpoint might hold to keep a process busy, to fill its memory, or to overflow its stack. */
const ATTACKS: Readonly<Record<string, string>> = {
  'a long separator in JSON': "{{ range(1000)|list|tojson(separators=('x' * 1000000, ':')) }}",
  'a long separator of keys in JSON':
    "{{ dict(range(2000)|map('string')|batch(2)|list)|tojson(separators=(',', 'x' * 1000000)) }}",
  'a long range': '{% for i in range(1000000000) %}x{% endfor %}',
  'nested loops': loops(4, 'x'),
  'nested loops without output': loops(5, ''),
  'nested loops with a filter': `${LOOP}{% for b in range(100000) if b < 0 %}{% endfor %}{% endfor %}`,
  'loops that continue': loops(3, '{% continue %}'),
  'a repeated string': "{{ 'x' * 10000000000 }}",
  'a repeated string that is just too long': "{{ ('x' * 67108000) ~ ('y' * 67108000) }}",
  'a repeated list': '{{ ([1] * 10000000000)|length }}',
  'a repeated tuple': '{{ ((1,) * 1000000000)|length }}',
  'a doubled string': doubling("'x'", 'ns.x ~ ns.x', 200, '{{ ns.x|length }}'),
  'a doubled list': doubling('[1]', 'ns.x + ns.x', 200, '{{ ns.x|length }}'),
  'a list that holds itself twice, printed': doubling('[1]', '[ns.x, ns.x]', 100, '{{ ns.x }}'),
  'a list that holds itself twice, as JSON': doubling('[1]', '[ns.x, ns.x]', 100, '{{ ns.x|tojson }}'),
  'lists that hold themselves, compared': doubling(
    '[1]',
    '[ns.x, ns.x]',
    60,
    '{{ ns.x == [ns.x[0], [ns.x[1][0], 2]] }}',
  ),
  'a tuple that holds itself, hashed': doubling('(1,)', '(ns.x, ns.x)', 100, '{{ {ns.x: 1} }}'),
  'a dict that holds itself, pretty': doubling('{}', "{'a': ns.x, 'b': ns.x}", 100, '{{ ns.x|pprint }}'),
  'a deep list': doubling('[]', '[ns.x]', 100000, '{{ ns.x }}'),
  'a deep list, compared': `${doubling('[]', '[ns.x]', 100000, '')}{{ ns.x == [ns.x] }}`,
  'a list that appends to itself': '{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}',
  'a list inside of itself': '{% set l = [] %}{% set _ = l.append(l) %}{{ l }}',
  'a power': '{{ 10 ** 1000000000 }}',
  'powers of powers': '{{ 9 ** 9 ** 9 ** 9 }}',
  'a product that grows': doubling('3', 'ns.x * ns.x', 200, '{{ ns.x % 7 }}'),
  'long divisions': `{% set a = 3 ** 80000 %}${LOOP}{% set b = a // 7 %}{% endfor %}`,
  'a long integer printed': '{{ 2 ** 100000 }}',
  'a wide format': "{{ '%999999999d' % 1 }}",
  'a wide format with a star': "{{ '%*d' % (2000000000, 1) }}",
  'a precise format': "{{ '%.999999999f' % 1.5 }}",
  'a wide format method': "{{ '{:>999999999}'.format('x') }}",
  'formats inside formats': "{{ '{:{}}'.format('x', '>' ~ '9' * 9) }}",
  'a wide center': "{{ 'x'|center(1000000000) }}",
  'a wide ljust': "{{ 'x'.ljust(1000000000) }}",
  'a wide zfill': "{{ '1'.zfill(1000000000) }}",
  'wide tabs': "{{ ('\\t' * 1000).expandtabs(1000000000) }}",
  'a wide indent': "{{ ('a\\n' * 100000)|indent(1000000) }}",
  'a wide JSON indent': '{{ [[[[1]]]]|tojson(indent=1000000000) }}',
  'replacements that grow': doubling("'a'", "ns.x.replace('a', 'aaaaaaaaaa')", 100, '{{ ns.x|length }}'),
  'replacing nothing': "{{ ('x' * 1000000).replace('', 'y' * 1000000)|length }}",
  'a join that grows': "{{ ('y' * 100000).join('x' * 100000)|length }}",
  'a wordwrap': "{{ ('a-' * 500000)|wordwrap(1) }}",
  'a wordwrap of spaces': "{{ (' ' * 5000000)|wordwrap(2)|length }}",
  'a find that backs up': "{{ ('a' * 4000000).find('a' * 2000000 ~ 'b') }}",
  'finds that back up': `{% set t = 'a' * 1000000 %}${LOOP}{{ t.rfind('b' ~ 'a' * 30) }}{% endfor %}`,
  'splits of splits': `{% set t = 'a b ' * 100000 %}${LOOP}{% set x = t.split() %}{% endfor %}`,
  'titles over and over': `{% set t = 'a ' * 500000 %}${LOOP}{% set x = t.title() %}{% endfor %}`,
  'characters by index': `{% set t = '\u{1f600}' * 500000 %}${LOOP}{% set x = t[a] %}{% endfor %}`,
  'lengths over and over': `{% set t = '\u{1f600}' * 500000 %}${LOOP}{% set x = t|length %}{% endfor %}`,
  'sorting over and over': `{% set t = range(100000)|list %}${LOOP}{% set x = t|sort(reverse=true) %}{% endfor %}`,
  'grouping all': `{% set t = range(100000)|list %}${LOOP}{% set x = t|map('string')|groupby('0') %}{% endfor %}`,
  'a batch that is filled': '{{ [1]|batch(1000000000, 0)|list|length }}',
  'many slices': '{{ [1]|slice(1000000000)|list|length }}',
  'a macro without end': '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  'a macro that calls twice': '{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(100) }}',
  'callers inside callers': '{% macro f(n) %}{% call f(n) %}{% endcall %}{% endmacro %}{{ f(1) }}',
  'a recursive loop without end': '{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}',
  'a block of itself': '{% block a %}{{ self.a() }}{% endblock %}',
  'many parentheses': `{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`,
  'many lists': `{{ ${'['.repeat(100_000)}${']'.repeat(100_000)} }}`,
  'many signs': `{{ ${'-'.repeat(100_000)}1 }}`,
  'many nots': `{{ ${'not '.repeat(100_000)}1 }}`,
  'many conditions': `{{ ${'1 if 1 else '.repeat(100_000)}1 }}`,
  'a long sum': `{{ 1${' + 1'.repeat(500_000)} }}`,
  'a long concatenation': `{{ 1${' ~ 1'.repeat(500_000)} }}`,
  'a long path': `{{ a${'.a'.repeat(500_000)} }}`,
  'a long chain of filters': `{{ 1${'|abs'.repeat(500_000)} }}`,
  'many ifs inside each other': '{% if 1 %}'.repeat(100_000),
  'many statements': '{% set x = 1 %}'.repeat(200_000),
  'many outputs': '{{1}}'.repeat(800_000),
  'many braces': '{'.repeat(4_000_000),
  'many opened tags': '{% '.repeat(1_000_000),
  'many comments': '{##}'.repeat(1_000_000),
  'spaces before tags': ' {%- set x = 1 -%} '.repeat(100_000),
  'white space without end': `{{ 1 ${' '.repeat(4_000_000)}`,
  'spaces that are no indentation': `${' '.repeat(2_000_000)}x${' '.repeat(2_000_000)}{%- if 1 %}{% endif %}`,
  'raw without end': `{% raw %}${'{% '.repeat(1_000_000)}`,
  'a long literal': `{{ '${'\\x41'.repeat(900_000)}'|length }}`,
  'a long integer literal': `{{ ${'9'.repeat(4_000_000)} }}`,
  'a long float literal': `{{ ${'9'.repeat(2_000_000)}.${'9'.repeat(2_000_000)} }}`,
  'many elifs': `{% if 0 %}${'{% elif 0 %}'.repeat(200_000)}{% endif %}`,
  'many named arguments': `{{ dict(${Array.from({ length: 100_000 }, (_, i) => `a${i}=1`).join()})|length }}`,
}

/** Milliseconds that this thread may compute for one template. */
const LONGEST_HOLD = 200

/** Milliseconds that this thread has computed since then; where the system does not count them, those on the clock. */
function threadClock(): () => number {
  const schedule = `/proc/self/task/${process.pid}/schedstat`
  const now = existsSync(schedule)
    ? () => Number(readFileSync(schedule, 'latin1').split(' ')[0]) / 1e6
    : () => performance.now()
  const started = now()
  return () => now() - started
}

const FREE = { steps: 1e5, bytes: 1e6, depth: 100, milliseconds: 1000 }
const variables = new Map([['messages', fromJavaScript([{ role: 'user', content: 'hi' }], 'messages')]])
const worker = new TextWorker({ file: '', growth: 1, maxTextBytes: 1 })

const template = (source: string): TemplateSource => ({
  source,
  path: 'dir/chat_template.jinja',
  fault: 'INVALID_CHECKPOINT',
})

beforeAll(async () => {
  await worker.render(toRendering(template('x'), new Map())).output // starts the thread
})
afterAll(() => worker.close(Object.assign(new Error('done'), { code: 'DISPOSED' }) as never))

describe('a hostile template', () => {
  it.each(Object.entries(ATTACKS))('%s', async (_name, source) => {
    const hostile = template(source)
    const started = performance.now()
    const clock = threadClock()
    let outcome: string
    try {
      const cache = new TemplateCache()
      const text = cache.tryRender(hostile, variables, EVENT_LOOP_LIMITS)
      expect(clock()).toBeLessThan(LONGEST_HOLD)
      outcome = text ?? (await worker.render(toRendering(hostile, variables)).output)
      expect(outcome.length).toBeLessThan(1e8)
    } catch (error) {
      expect(error).toMatchObject({ name: 'BillfishError' })
      expect((error as { code: string }).code).toMatch(/^INVALID_(CHECKPOINT|OPTION)$/)
      expect((error as Error).message).toContain('chat_template.jinja')
    }
    expect(clock()).toBeLessThan(LONGEST_HOLD)
    expect(performance.now() - started).toBeLessThan(2000)
    expect(process.memoryUsage().rss).toBeLessThan(1.5 * 2 ** 30)
  })

  it('covers all kinds', () => {
    expect(Object.keys(ATTACKS).length).toBeGreaterThan(60)
  })
})

describe('a mutated template', () => {
  const fixture = readFileSync(join(__dirname, '../fixtures/jinja/constructs.json'), 'utf8')
  const sources = (JSON.parse(fixture) as { entries: { template: string }[] }).entries.map((entry) => entry.template)
  const pieces = [
    '{{',
    '}}',
    '{% ',
    ' %}',
    '|list',
    '|sort',
    '|tojson',
    '.items()',
    '[::-1]',
    '(',
    ']',
    "'",
    'none',
    '*u',
  ]

  it.each([1, 2, 3])('gives a text or a BillfishError (seed %i)', async (seed) => {
    const random = new Random(seed)
    const given = new Map([...variables, ['u', fromJavaScript([{ name: 'a' }, 2.5, null], 'u')]])
    for (let round = 0; round < 1000; round++) {
      let source = random.pick(sources)
      for (let mutation = 0; mutation <= random.below(3); mutation++) {
        const at = random.below(source.length + 1)
        const from = random.below(source.length + 1)
        const inserted = random.chance(0.5) ? random.pick(pieces) : source.slice(from, from + random.below(40))
        source = source.slice(0, at) + inserted + source.slice(at + random.below(8))
      }
      try {
        new TemplateCache().tryRender(template(source), given, EVENT_LOOP_LIMITS)
      } catch (error) {
        expect(error, source).toMatchObject({ name: 'BillfishError' })
      }
    }
  })
})

describe('a budget', () => {
  it('names the limit and the file', () => {
    const cache = new TemplateCache()
    const render = (source: string) => () => cache.render(template(source), variables, FREE)
    expect(render(loops(2, 'x'))).toThrowError(/dir\/chat_template\.jinja: .* more than 100000 steps/)
    expect(render("{{ 'x' * 2000000 }}")).toThrowError(/more than 1000000 bytes/)
    expect(render('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}')).toThrowError(/more than 100 nested levels/)
  })

  it('lets ordinary conversations pass on the event loop', () => {
    const cache = new TemplateCache()
    const source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content|trim + '<|end|>\\n' }}{% endfor %}"
    const messages = Array.from({ length: 500 }, () => ({ role: 'user', content: 'Tell me more. '.repeat(40) }))
    const given = new Map([['messages', fromJavaScript(messages, 'messages')]])
    const unhurried = { ...EVENT_LOOP_LIMITS, milliseconds: 10_000 }
    expect(cache.tryRender(template(source), given, unhurried)).toHaveLength(500 * 575)
  })

  it('of the event loop is followed by the thread’s, with the same text', async () => {
    const source = "{% for a in range(200) %}{% for b in range(200) %}{{ a + x }}{{ d['é'] }}{% endfor %}{% endfor %}"
    const given = new Map([
      ['x', fromJavaScript(0.5, 'x')],
      ['d', fromJavaScript({ é: [null, true, 10n ** 20n] }, 'd')],
    ])
    const cache = new TemplateCache()
    expect(cache.tryRender(template(source), given, EVENT_LOOP_LIMITS)).toBeUndefined()
    const text = await worker.render(toRendering(template(source), given)).output
    expect(text).toBe(cache.render(template(source), given, { ...SYNCHRONOUS_LIMITS, milliseconds: 10_000 }))
    expect(text).toContain('199.5[None, True, 100000000000000000000]')
  })

  it('ends with the signal of the caller', async () => {
    const { output, cancel } = worker.render(toRendering(template(loops(4, '')), new Map()))
    setTimeout(() => cancel(new Error('no longer wanted')), 50)
    await expect(output).rejects.toThrow('no longer wanted')
    expect(await worker.render(toRendering(template('next'), new Map())).output).toBe('next')
  })
})
