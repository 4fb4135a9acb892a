/**
 * Regular expressions of a checkpoint's config, as Python reads them. They come from a file that may be hostile. RE2 takes
 * time that is linear in the text's length; what it cannot say (lookahead, backreferences, long repetitions) runs in
 * JavaScript's own engine, which is stopped when it backtracks for long.
 */
import { createContext, Script } from 'node:vm'
import { RE2JS } from 're2js'
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import type { BillfishError } from '../errors'
import { PatternFault, type TranslatedPattern, translate } from './python-pattern'

const MAX_LENGTH = 1000
/** RE2 writes repetitions out; this many characters and classes take it some ten milliseconds. */
const MAX_WRITTEN_OUT = 2000
/** Milliseconds that a pattern may take for one name; they are microseconds, but for a busy machine. */
const TIME_LIMIT = 50
/** The second time: whatever else ran then does so no more. */
const LAST_TIME_LIMIT = 300

type Test = (text: string) => boolean

/** Names, with or without dots: a dot fits any character. */
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

/** Where patterns run that may have to be stopped: nothing but `stage` is there. */
let stopped:
  | { readonly stage: { expression?: RegExp; text?: string }; readonly run: (timeout: number) => boolean }
  | undefined

function stoppable() {
  if (stopped === undefined) {
    const stage = {}
    const context = createContext(Object.assign(Object.create(null), { stage }))
    const script = new Script('stage.expression.test(stage.text)')
    stopped = { stage, run: (timeout) => script.runInContext(context, { timeout }) as boolean }
  }
  return stopped
}

function isTimeout(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
}

function backtrackingTests({ js, flags }: TranslatedPattern): { start: Test; anywhere: Test } {
  const test = (expression: RegExp) => (text: string) => {
    const { stage, run } = stoppable()
    stage.expression = expression
    stage.text = text
    expression.lastIndex = 0
    try {
      return run(TIME_LIMIT)
    } catch (error) {
      if (!isTimeout(error)) throw error
      expression.lastIndex = 0
      return run(LAST_TIME_LIMIT)
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
      const fault = error instanceof PatternFault ? error.message : `cannot be used (${(error as Error).message})`
      throw refuse(where, source, fault)
    }
  }

  /**
   * @param where - who says it, for messages
   * @throws BillfishError INVALID_CHECKPOINT for what is no pattern, or too large a one
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

  /** True where the pattern matches the text's beginning (Python's re.match), not necessarily all of it. */
  matchesStart(text: string): boolean {
    return this.#run(this.#tests.start, text)
  }

  /** True where the pattern matches some part of the text (Python's re.search). */
  matchesAnywhere(text: string): boolean {
    return this.#run(this.#tests.anywhere, text)
  }

  /** @throws BillfishError INVALID_CHECKPOINT where it takes too long */
  #run(test: Test, text: string): boolean {
    try {
      return test(text)
    } catch (error) {
      const fault = isTimeout(error)
        ? `takes longer than ${LAST_TIME_LIMIT} ms for ${quoted(text)}`
        : `cannot be used (${(error as Error).message})`
      throw refuse('The quantization config', this.#source, fault)
    }
  }
}

function refuse(where: string, source: string, fault: string): BillfishError {
  return invalidCheckpoint(`${where}: the pattern ${quoted(source)} ${fault}; write it in simpler terms`)
}

function compile(source: string): { start: Test; anywhere: Test } {
  if (source.length > MAX_LENGTH) throw new PatternFault(`has more than ${MAX_LENGTH} characters`)
  if (/^[\w.]*$/.test(source)) return plainTests(source)
  const translated = translate(source)
  const { re2, flags, size } = translated
  if (re2 !== undefined && size <= MAX_WRITTEN_OUT) {
    try {
      return linearTests(re2, flags)
    } catch {
      // RE2 refuses repetitions within one another that come to more than 1000.
    }
  }
  return backtrackingTests(translated)
}
