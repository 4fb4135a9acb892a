/**
 * Python regular expressions from checkpoint configs, which may be hostile. RE2 runs in linear time; what it cannot
 * express (lookahead, backreferences, long repetitions) runs in the JavaScript engine, which is interrupted if it
 * backtracks for too long.
 */
import { createContext, Script } from 'node:vm'
import { RE2JS } from 're2js'
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import type { BillfishError } from '../common/errors'
import { PatternError, type TranslatedPattern, translate } from './python-pattern'

const MAX_LENGTH = 1000
/** RE2 expands repetitions; this many characters and classes take it about ten milliseconds. */
const MAX_EXPANDED_SIZE = 2000
/** Milliseconds a pattern may take per name; normally microseconds, except on a busy machine. */
const TIME_LIMIT = 50
/** Limit of the retry, when a momentary load may have passed. */
const RETRY_TIME_LIMIT = 300

type Test = (text: string) => boolean

/** Plain names; a dot matches any character. */
function plainTests(pattern: string): { start: Test; anywhere: Test } {
  const fitsAt = (text: string, at: number) => {
    for (let i = 0; i < pattern.length; i++) if (pattern[i] !== '.' && pattern[i] !== text[at + i]) return false
    return at + pattern.length <= text.length
  }
  const anywhere = (text: string) => {
    for (let at = 0; at + pattern.length <= text.length; at++) if (fitsAt(text, at)) return true
    return false
  }
  return { start: (text) => fitsAt(text, 0), anywhere }
}

const FLAGS: Readonly<Record<string, number>> = {
  i: RE2JS.CASE_INSENSITIVE,
  m: RE2JS.MULTILINE,
  s: RE2JS.DOTALL,
}

function linearTests(pattern: string, flags: string): { start: Test; anywhere: Test } {
  const bits = [...flags].reduce((sum, flag) => sum | (FLAGS[flag] ?? 0), RE2JS.LOOKBEHINDS)
  const anywhere = RE2JS.compile(pattern, bits)
  let start: RE2JS | undefined
  return {
    start: (text) => {
      start ??= RE2JS.compile(`\\A(?:${pattern})`, bits)
      return start.test(text)
    },
    anywhere: (text) => anywhere.test(text),
  }
}

/** Context for patterns that may have to be interrupted; it contains nothing but `stage`. */
let context:
  | { readonly stage: { expression?: RegExp; text?: string }; readonly run: (timeout: number) => boolean }
  | undefined

function interruptibleContext() {
  if (context === undefined) {
    const stage = {}
    const vmContext = createContext(Object.assign(Object.create(null), { stage }))
    const script = new Script('stage.expression.test(stage.text)')
    context = { stage, run: (timeout) => script.runInContext(vmContext, { timeout }) as boolean }
  }
  return context
}

function isTimeout(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
}

function backtrackingTests({ js, flags }: TranslatedPattern): { start: Test; anywhere: Test } {
  const test = (expression: RegExp) => (text: string) => {
    const { stage, run } = interruptibleContext()
    stage.expression = expression
    stage.text = text
    expression.lastIndex = 0
    try {
      return run(TIME_LIMIT)
    } catch (error) {
      if (!isTimeout(error)) throw error
      expression.lastIndex = 0
      return run(RETRY_TIME_LIMIT)
    }
  }
  return { start: test(new RegExp(js, `${flags}uy`)), anywhere: test(new RegExp(js, `${flags}u`)) }
}

export class Pattern {
  static readonly #compiled = new Map<string, Pattern>()
  readonly #tests: { start: Test; anywhere: Test }
  readonly #source: string

  private constructor(source: string, where: string) {
    this.#source = source
    try {
      this.#tests = compile(source)
    } catch (error) {
      const fault = error instanceof PatternError ? error.message : `cannot be used (${(error as Error).message})`
      throw refuse(where, source, fault)
    }
  }

  /**
   * @param where source of the pattern, for error messages
   * @throws BillfishError INVALID_CHECKPOINT for an invalid or too large pattern
   */
  static of(source: string, where: string): Pattern {
    let pattern = Pattern.#compiled.get(source)
    if (pattern === undefined) {
      pattern = new Pattern(source, where)
      if (Pattern.#compiled.size >= 1000) Pattern.#compiled.clear()
      Pattern.#compiled.set(source, pattern)
    }
    return pattern
  }

  /** Whether the pattern matches at the start of the text (re.match). */
  matchesStart(text: string): boolean {
    return this.#run(this.#tests.start, text)
  }

  /** Whether the pattern matches anywhere in the text (re.search). */
  matchesAnywhere(text: string): boolean {
    return this.#run(this.#tests.anywhere, text)
  }

  /** @throws BillfishError INVALID_CHECKPOINT if it takes too long */
  #run(test: Test, text: string): boolean {
    try {
      return test(text)
    } catch (error) {
      const fault = isTimeout(error)
        ? `takes longer than ${RETRY_TIME_LIMIT} ms for ${quoted(text)}`
        : `cannot be used (${(error as Error).message})`
      throw refuse('The quantization config', this.#source, fault)
    }
  }
}

function refuse(where: string, source: string, fault: string): BillfishError {
  return invalidCheckpoint(`${where}: the pattern ${quoted(source)} ${fault}; simplify it`)
}

function compile(source: string): { start: Test; anywhere: Test } {
  if (source.length > MAX_LENGTH) throw new PatternError(`has more than ${MAX_LENGTH} characters`)
  if (/^[\w.]*$/.test(source)) return plainTests(source)
  const translated = translate(source)
  const { re2, flags, size } = translated
  if (re2 !== undefined && size <= MAX_EXPANDED_SIZE) {
    try {
      return linearTests(re2, flags)
    } catch {
      // RE2 rejects nested repetitions that expand to more than 1000.
    }
  }
  return backtrackingTests(translated)
}
