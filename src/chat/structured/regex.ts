import { type AST, RegExpParser } from '@eslint-community/regexpp'
import { BillfishError } from '../../common/errors'
import type { AutomatonBuilder, Part } from './automaton-builder'
import { codePointRanges, complement, type Range } from './utf8-ranges'

/** How characters are written: as they are, or escaped inside a JSON string. */
export type WriteCharacters = (ranges: readonly Range[]) => Part

const MAX_PATTERN_LENGTH = 4096
const MAX_DEPTH = 100
const ANY: Range[] = [{ low: 0, high: 0x10ffff }]
const DIGITS: Range[] = [range('0', '9')]
const WORD: Range[] = [range('a', 'z'), range('A', 'Z'), range('0', '9'), range('_', '_')]
const SPACE: Range[] = [
  { low: 0x09, high: 0x0d },
  { low: 0x20, high: 0x20 },
  { low: 0xa0, high: 0xa0 },
  { low: 0x1680, high: 0x1680 },
  { low: 0x2000, high: 0x200a },
  { low: 0x2028, high: 0x2029 },
  { low: 0x202f, high: 0x202f },
  { low: 0x205f, high: 0x205f },
  { low: 0x3000, high: 0x3000 },
  { low: 0xfeff, high: 0xfeff },
]
const LINE_ENDS: Range[] = [
  { low: 0x0a, high: 0x0a },
  { low: 0x0d, high: 0x0d },
  { low: 0x2028, high: 0x2029 },
]

function range(low: string, high: string): Range {
  return { low: low.charCodeAt(0), high: high.charCodeAt(0) }
}

export interface RegexOptions {
  readonly write: WriteCharacters
  /** Whether the pattern is the whole text, or, as in JSON schemas, anything may stand around it unless ^ and $ say no. */
  readonly whole: boolean
}

/**
 * The texts of an ECMAScript regular expression without flags other than `u`.
 * @throws BillfishError INVALID_OPTION for what is malformed, or is not regular: look-around, back-references, \b
 */
export function regexPart(builder: AutomatonBuilder, pattern: string, { write, whole }: RegexOptions): Part {
  const anything = whole ? [] : [builder.repeat(write(ANY), 0, Number.POSITIVE_INFINITY)]
  const elements = new RegexElements(builder, write)
  const alternatives = parsePattern(pattern).alternatives.map((alternative) => {
    const starts = isAnchor(alternative.elements[0], 'start')
    const rest = alternative.elements.slice(starts ? 1 : 0)
    const ends = isAnchor(rest[rest.length - 1], 'end')
    const body = elements.sequence(ends ? rest.slice(0, -1) : rest)
    return builder.sequence(...(starts ? [] : anything), body, ...(ends ? [] : anything))
  })
  return builder.oneOf(...alternatives)
}

function parsePattern(pattern: string): AST.Pattern {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw refused(`the pattern has ${pattern.length} characters; at most ${MAX_PATTERN_LENGTH} are read`)
  }
  checkDepth(pattern)
  const parser = new RegExpParser()
  const parse = (unicode: boolean) => parser.parsePattern(pattern, 0, pattern.length, { unicode })
  try {
    return parse(true)
  } catch {
    // Without the flag u, superfluous escapes such as \- are allowed.
    try {
      return parse(false)
    } catch (error) {
      throw refused(error instanceof Error ? error.message : String(error))
    }
  }
}

/** Before the parser, which is recursive. */
function checkDepth(pattern: string): void {
  let depth = 0
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] === '\\') i++
    else if (pattern[i] === '(') depth++
    else if (pattern[i] === ')') depth--
    if (depth > MAX_DEPTH) throw refused(`the pattern is nested more than ${MAX_DEPTH} deep`)
  }
}

function isAnchor(element: AST.Element | undefined, kind: 'start' | 'end'): boolean {
  return element?.type === 'Assertion' && element.kind === kind
}

class RegexElements {
  readonly #builder: AutomatonBuilder
  readonly #write: WriteCharacters

  constructor(builder: AutomatonBuilder, write: WriteCharacters) {
    this.#builder = builder
    this.#write = write
  }

  sequence(elements: readonly AST.Element[]): Part {
    return this.#builder.sequence(...elements.map((element) => this.#element(element)))
  }

  #element(element: AST.Element): Part {
    switch (element.type) {
      case 'Character':
      case 'CharacterSet':
      case 'CharacterClass':
        return this.#write(charactersOf(element))
      case 'Group':
      case 'CapturingGroup': {
        if (element.type === 'Group' && element.modifiers) throw refused(`modifiers, ${element.raw}, are not supported`)
        return this.#builder.oneOf(...element.alternatives.map(({ elements }) => this.sequence(elements)))
      }
      case 'Quantifier':
        return this.#builder.repeat(this.#element(element.element), element.min, element.max)
      case 'Assertion':
        if (element.kind === 'start' || element.kind === 'end') {
          throw refused(`${element.raw} is supported only at the ends of the pattern and of its outermost alternatives`)
        }
        throw refused(`${element.raw} is not supported, as all that looks around`)
      default:
        throw refused(`${element.raw} is not supported`)
    }
  }
}

function charactersOf(element: AST.Character | AST.CharacterSet | AST.CharacterClass): Range[] {
  if (element.type === 'Character') return [{ low: element.value, high: element.value }]
  if (element.type === 'CharacterSet') return setOf(element)
  const ranges = element.elements.flatMap((member) => {
    if (member.type === 'CharacterClassRange') return [{ low: member.min.value, high: member.max.value }]
    if (member.type === 'Character' || member.type === 'CharacterSet') return charactersOf(member)
    throw refused(`${member.raw} is not supported`)
  })
  return element.negate ? complement(ranges) : codePointRanges(ranges)
}

function setOf(set: AST.CharacterSet): Range[] {
  const negated = (ranges: Range[], negate: boolean) => (negate ? complement(ranges) : ranges)
  switch (set.kind) {
    case 'any':
      return complement(LINE_ENDS)
    case 'digit':
      return negated(DIGITS, set.negate)
    case 'word':
      return negated(WORD, set.negate)
    case 'space':
      return negated(SPACE, set.negate)
    default:
      throw refused(`${set.raw} is not supported; write the ranges out`)
  }
}

function refused(what: string): BillfishError {
  return new BillfishError('INVALID_OPTION', what)
}
