/**
 * Damage to chat templates: to their characters, which mostly breaks the syntax, and to their tokens, which mostly does not
 * and reaches what happens while a template is rendered.
 */

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

const ATOMS = [
  ...[
    'messages',
    'tools',
    'messages[0]',
    'messages[-1]',
    'message',
    'loop',
    'loop.index0',
    'bos_token',
    'undefined_name',
  ],
  ...[
    'none',
    'true',
    'false',
    '0',
    '1',
    '-1',
    '2.5',
    '10 ** 18',
    '1e308',
    '99999',
    "''",
    "'a'",
    "'%s'",
    "'{}'",
    "'é😀'",
  ],
  ...['[]', '[1, 2, 3]', '[[1, 2], [3]]', '{}', "{'a': 1}", '(1, 2)', 'range(3)', 'range(100000)', 'namespace(x=1)'],
  ...['dict(a=1)', 'cycler(1, 2)', 'joiner(",")', "'ab' * 1000", '[0] * 1000', 'strftime_now("%Y")', 'm', 'caller'],
]
const FILTERS = [
  ...[
    'abs',
    'attr("role")',
    'batch(2)',
    'batch(2, none)',
    'capitalize',
    'center(9)',
    'count',
    'd(1)',
    'default("x", true)',
  ],
  ...[
    'dictsort',
    'dictsort(false, "value")',
    'e',
    'escape',
    'filesizeformat',
    'first',
    'float',
    'forceescape',
    'format(1)',
  ],
  ...[
    'groupby("role")',
    'groupby(0)',
    'indent(4)',
    'indent("x", true)',
    'int',
    'int(0, 16)',
    'items',
    'join',
    'join(",", "a")',
  ],
  ...[
    'last',
    'length',
    'list',
    'lower',
    'map("upper")|list',
    'map(attribute="role")|list',
    'max',
    'min',
    'pprint',
    'random',
  ],
  ...[
    'reject("none")|list',
    'rejectattr("content")|list',
    'replace("a", "bb")',
    'replace("", "x", 2)',
    'reverse',
    'round',
  ],
  ...[
    'round(2, "floor")',
    'safe',
    'select("string")|list',
    'selectattr("role", "equalto", "user")|list',
    'slice(3)|list',
  ],
  ...[
    'sort',
    'sort(true, true)',
    'sort(attribute="role")',
    'string',
    'striptags',
    'sum',
    'sum(start=[])',
    'title',
    'tojson',
  ],
  ...[
    'tojson(indent=2)',
    'trim',
    'trim("a")',
    'truncate(5)',
    'truncate(5, true, "", 0)',
    'unique|list',
    'upper',
    'urlencode',
  ],
  ...[
    'wordcount',
    'wordwrap(5)',
    'xmlattr',
    'nothing',
    'batch(0)',
    'slice(0)|list',
    'center(-1)',
    'round(400)',
    'indent(-1)',
  ],
]
const TESTS = [
  ...[
    'boolean',
    'callable',
    'defined',
    'divisibleby(2)',
    'divisibleby(0)',
    'eq 1',
    'even',
    'escaped',
    'false',
    'filter',
  ],
  ...[
    'float',
    'ge 1',
    'in [1]',
    'in "abc"',
    'integer',
    'iterable',
    'lower',
    'lt 3',
    'mapping',
    'ne none',
    'none',
    'number',
  ],
  ...['odd', 'sameas none', 'sequence', 'string', 'test', 'true', 'undefined', 'upper', 'nothing', 'not defined'],
]
const MEMBERS = [
  ...[
    '.role',
    '.content',
    '["content"]',
    '[0]',
    '[-1]',
    '[1:]',
    '[::-1]',
    '[::0]',
    '[:10 ** 9]',
    '.items()',
    '.keys()|list',
  ],
  ...[
    '.get("a")',
    '.upper()',
    '.split()',
    '.split("")',
    '.strip("a")',
    '.replace("a", "aa")',
    '.format(1, a=2)',
    '.join("ab")',
  ],
  ...[
    '.startswith("a")',
    '.count("")',
    '.find("a", 1)',
    '.encode()',
    '.index(1)',
    '.append(1)',
    '.pop()',
    '.copy()',
    '.x.y',
  ],
  ...[
    '.zfill(9)',
    '.ljust(9, "x")',
    '.title()',
    '.casefold()',
    '.splitlines()',
    '.partition("a")',
    '.rsplit("a", 1)',
    '()',
  ],
  ...[
    '.__class__',
    '.format_map({})',
    '.isdigit()',
    '.center(99)',
    '.expandtabs(9)',
    '.translate({})',
    '(1, x=2)',
    '.bit_length()',
  ],
]
const OPERATORS = [
  ...[
    ' + ',
    ' - ',
    ' * ',
    ' / ',
    ' // ',
    ' % ',
    ' ** ',
    ' ~ ',
    ' == ',
    ' != ',
    ' < ',
    ' >= ',
    ' in ',
    ' not in ',
    ' and ',
  ],
  ...[' or ', ' is ', ', ', ' if x else '],
]

const TOKEN =
  /\{%[-+]?|[-+]?%\}|\{\{[-+]?|[-+]?\}\}|\{#|#\}|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d[\d.e]*|\w+|\*\*|\/\/|[=!<>]=|\s+|[\s\S]/gu

/** The tokens of a template, each with whether it stands inside a tag: `{{ x }}` has x inside. */
function tokensOf(text) {
  const tokens = []
  let inside = false
  for (const [token] of text.matchAll(TOKEN)) {
    if (token.startsWith('{%') || token.startsWith('{{')) inside = true
    else if (token.endsWith('%}') || token.endsWith('}}')) inside = false
    tokens.push({ text: token, inside: inside && !/^\{[%{]/.test(token) })
  }
  return tokens
}

const isValue = ({ text, inside }) => inside && /^(?:['"\d]|\w+$)/.test(text) && !KEYWORDS.has(text)
const KEYWORDS = new Set([
  ...[
    'for',
    'in',
    'if',
    'elif',
    'else',
    'endif',
    'endfor',
    'set',
    'endset',
    'macro',
    'endmacro',
    'is',
    'not',
    'and',
    'or',
  ],
  ...[
    'filter',
    'endfilter',
    'call',
    'endcall',
    'generation',
    'endgeneration',
    'break',
    'continue',
    'recursive',
    'raw',
    'endraw',
  ],
])
const isOperator = ({ text, inside }) => inside && /^(?:[-+*/%~<>]|\*\*|\/\/|[=!<>]=|and|or|in)$/.test(text)

/** An expression of a few parts that parses. */
function expression(random, depth = 0) {
  const inner = () => (depth > 2 ? random.pick(ATOMS) : expression(random, depth + 1))
  switch (random.below(9)) {
    case 0:
    case 1:
      return random.pick(ATOMS)
    case 2:
      return `(${inner()}${random.pick(OPERATORS)}${inner()})`
    case 3:
    case 4:
      return `(${inner()})|${random.pick(FILTERS)}`
    case 5:
      return `(${inner()} is ${random.pick(TESTS)})`
    case 6:
      return `(${inner()} if ${inner()} else ${inner()})`
    default:
      return `(${inner()})${random.pick(MEMBERS)}`
  }
}

function statement(random) {
  const body = random.pick(['x', '{{ loop.index }}', '{{ x }}', '{% break %}', '{{ caller() }}', '{{ m(1) }}'])
  const value = expression(random)
  return random.pick([
    `{{ ${value} }}`,
    `{{- ${value} -}}`,
    `{% set x = ${value} %}`,
    `{% set x %}{{ ${value} }}{% endset %}`,
    `{% for x in ${value} %}${body}{% else %}none{% endfor %}`,
    `{% for x, y in ${value} if ${expression(random)} %}${body}{% endfor %}`,
    `{% for x in ${value} recursive %}{{ loop(x) }}{% endfor %}`,
    `{% if ${value} %}a{% elif ${expression(random)} %}b{% else %}c{% endif %}`,
    `{% macro m(a, b=${value}) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}`,
    `{% call m(${value}) %}${body}{% endcall %}`,
    `{% filter ${random.pick(FILTERS)} %}{{ ${value} }}{% endfilter %}`,
    `{% with x = ${value} %}{{ x }}{% endwith %}`,
  ])
}

function changeTokens(text, random) {
  const tokens = tokensOf(text)
  const pickPlace = (accept) => {
    const all = tokens.flatMap((token, i) => (accept(token) ? [i] : []))
    return all.length > 0 ? random.pick(all) : -1
  }
  const kind = random.below(6)
  const at = kind === 3 ? pickPlace(isOperator) : kind === 4 ? pickPlace(({ inside }) => !inside) : pickPlace(isValue)
  if (at < 0) return text + statement(random)
  const token = tokens[at]
  if (kind === 0) token.text = `(${expression(random)})`
  else if (kind === 1) token.text += random.pick(MEMBERS)
  else if (kind === 2) token.text = `(${token.text}|${random.pick(FILTERS)})`
  else if (kind === 3) token.text = random.pick(OPERATORS)
  else if (kind === 4) token.text = /^[{#%}-]/.test(token.text) ? token.text : token.text + statement(random)
  else token.text = tokens[pickPlace(isValue)].text
  return tokens.map((each) => each.text).join('')
}

function changeCharacters(text, sources, random) {
  const at = random.below(text.length + 1)
  const length = random.pick([1, 3, 10, 50])
  switch (random.below(6)) {
    case 0:
      return text.slice(0, at) + text.slice(at + length)
    case 1:
      return text.slice(0, at) + random.pick(PIECES) + text.slice(at)
    case 2:
      return text.slice(0, at) + text.slice(at, at + length).repeat(random.pick([2, 3, 100])) + text.slice(at)
    case 3: {
      const other = random.pick(sources)
      const start = random.below(other.length + 1)
      return text.slice(0, at) + other.slice(start, start + random.pick([10, 100, 1000])) + text.slice(at)
    }
    case 4:
      return text.replace(/\d+/, () => random.pick(['0', '-1', '1e9', '99999999999999999999', '1000000']))
    default:
      return text.slice(0, at) + String.fromCharCode(random.below(random.pick([128, 65536]))) + text.slice(at + 1)
  }
}

/** A template with some damage; three of four times only to its tokens. */
export function mutateTemplate(source, sources, random) {
  const characters = random.chance(0.25)
  let text = source
  for (let count = random.pick([1, 1, 2, 3, 8]); count > 0; count--) {
    text = characters ? changeCharacters(text, sources, random) : changeTokens(text, random)
  }
  return text
}
