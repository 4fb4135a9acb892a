/** A token of a Python literal: a string, a word or number, or punctuation and space. */
const TOKENS = /"[^"\\]*(?:\\[\s\S][^"\\]*)*"|'[^'\\]*(?:\\[\s\S][^'\\]*)*'|[\w.+-]+|[[\]{}:,]|\s+/gy

const WORDS: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' }

/** The JSON of a Python dict or list, `{'k': True}`; undefined if it is none. */
export function pythonToJson(text: string): string | undefined {
  const parts: string[] = []
  let end = 0
  for (const [token] of text.matchAll(TOKENS)) {
    end += token.length
    if (/^\s/.test(token)) continue
    if ((token === '}' || token === ']') && parts.at(-1) === ', ') parts.pop()
    parts.push(jsonToken(token))
  }
  if (end !== text.length) return undefined
  const json = parts.join('')
  try {
    JSON.parse(json)
    return json
  } catch {
    return undefined
  }
}

function jsonToken(token: string): string {
  if (token === ',' || token === ':') return `${token} `
  if (!/^['"]/.test(token)) return Object.hasOwn(WORDS, token) ? (WORDS[token] as string) : token
  const text = token.slice(1, -1).replace(/\\(?:u([\da-fA-F]{4})|x([\da-fA-F]{2})|([\s\S]))/g, (_, u, x, plain) => {
    if (plain === undefined) return String.fromCharCode(Number.parseInt(u ?? x, 16))
    return ESCAPES[plain] ?? plain
  })
  return JSON.stringify(text)
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', '\n': '' }
