/**
 * Regular expressions of a checkpoint's config. They come from a file that may be hostile, and JavaScript's own engine
 * can be made to backtrack for ever; this one follows all alternatives at once and takes at most
 * (length of the text) x (length of the pattern) steps.
 *
 * A pattern is compiled to a program, in which a thread is an instruction's number:
 *
 *     one     go on to the next instruction with the next character if it passes `test`
 *     split   go on at both places
 *     jump    go on there
 *     assert  go on if the position passes
 *     match   done
 */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'

type Instruction =
  | { op: 'one'; test: (character: string) => boolean }
  | { op: 'split'; first: number; second: number }
  | { op: 'jump'; to: number }
  | { op: 'assert'; holds: (text: string, at: number) => boolean }
  | { op: 'match' }

/** Appends the instructions of one part of the pattern; they fall through to whatever comes behind them. */
type Emit = (program: Instruction[]) => void

const MAX_PATTERN_LENGTH = 1000
const MAX_INSTRUCTIONS = 5000
const MAX_NESTING = 50
const MAX_REPEATS = 1000

const CLASSES: Readonly<Record<string, (character: string) => boolean>> = {
  d: (c) => /[0-9]/.test(c),
  D: (c) => !/[0-9]/.test(c),
  w: (c) => /\w/.test(c),
  W: (c) => !/\w/.test(c),
  s: (c) => /\s/.test(c),
  S: (c) => !/\s/.test(c),
}

/** True where `program` matches some text that begins at `start`. */
function run(program: readonly Instruction[], text: string, start: number): boolean {
  let threads: number[] = [0]
  for (let at = start; threads.length > 0; at++) {
    const seen = new Uint8Array(program.length)
    const next: number[] = []
    while (threads.length > 0) {
      const thread = threads.pop() as number
      const instruction = program[thread]
      if (instruction === undefined || seen[thread] === 1) continue
      seen[thread] = 1
      if (instruction.op === 'match') return true
      if (instruction.op === 'jump') threads.push(instruction.to)
      else if (instruction.op === 'split') threads.push(instruction.first, instruction.second)
      else if (instruction.op === 'assert') {
        if (instruction.holds(text, at)) threads.push(thread + 1)
      } else if (at < text.length && instruction.test(text.charAt(at))) next.push(thread + 1)
    }
    threads = next
  }
  return false
}

class Parser {
  private at = 0
  private nesting = 0
  private inLookahead = false

  constructor(
    private readonly source: string,
    private readonly where: string,
  ) {}

  parse(): Instruction[] {
    if (this.source.length > MAX_PATTERN_LENGTH) throw this.refuse(`has more than ${MAX_PATTERN_LENGTH} characters`)
    const emit = this.alternatives()
    if (this.at < this.source.length) throw this.refuse('has an unmatched )')
    return this.compile(emit)
  }

  private refuse(fault: string): Error {
    return invalidCheckpoint(`${this.where}: the pattern ${quoted(this.source)} ${fault}; write it in simpler terms`)
  }

  private compile(emit: Emit): Instruction[] {
    const program: Instruction[] = []
    emit(program)
    program.push({ op: 'match' })
    return program
  }

  private push(program: Instruction[], instruction: Instruction): void {
    if (program.length >= MAX_INSTRUCTIONS) throw this.refuse('is too large once its repetitions are written out')
    program.push(instruction)
  }

  private take(text: string): boolean {
    if (!this.source.startsWith(text, this.at)) return false
    this.at += text.length
    return true
  }

  private alternatives(): Emit {
    if (++this.nesting > MAX_NESTING) throw this.refuse('is nested too deeply')
    const first = this.sequence()
    const emit = this.take('|') ? this.either(first, this.alternatives()) : first
    this.nesting--
    return emit
  }

  private either(first: Emit, second: Emit): Emit {
    return (program) => {
      const split = { op: 'split' as const, first: program.length + 1, second: 0 }
      this.push(program, split)
      first(program)
      const jump = { op: 'jump' as const, to: 0 }
      this.push(program, jump)
      split.second = program.length
      second(program)
      jump.to = program.length
    }
  }

  private sequence(): Emit {
    const parts: Emit[] = []
    while (this.at < this.source.length && !'|)'.includes(this.source.charAt(this.at)))
      parts.push(this.repeated(this.atom()))
    return (program) => {
      for (const part of parts) part(program)
    }
  }

  private repeated(part: Emit): Emit {
    const range = this.repeats()
    if (range === undefined) return part
    this.take('?') // as few as possible: whether there is a match does not depend on it
    const [least, most] = range
    if (least > MAX_REPEATS || (most !== Infinity && (most > MAX_REPEATS || most < least)))
      throw this.refuse('has an impossible repetition')
    return (program) => {
      for (let i = 0; i < least; i++) {
        const before = program.length
        part(program)
        if (program.length === before) return // repeating nothing; nested, this would take for ever
      }
      if (most === Infinity) {
        const split = { op: 'split' as const, first: program.length + 1, second: 0 }
        this.push(program, split)
        part(program)
        this.push(program, { op: 'jump', to: program.indexOf(split) })
        split.second = program.length
        return
      }
      for (let i = least; i < most; i++) {
        const split = { op: 'split' as const, first: program.length + 1, second: 0 }
        this.push(program, split)
        part(program)
        split.second = program.length
      }
    }
  }

  private repeats(): readonly [number, number] | undefined {
    if (this.take('*')) return [0, Infinity]
    if (this.take('+')) return [1, Infinity]
    if (this.take('?')) return [0, 1]
    const braces = /^\{(\d{1,6})(,(\d{0,6}))?\}/.exec(this.source.slice(this.at, this.at + 20))
    if (braces === null) return undefined
    this.at += braces[0].length
    const least = Number(braces[1])
    if (braces[2] === undefined) return [least, least]
    return [least, braces[3] === '' ? Infinity : Number(braces[3])]
  }

  private atom(): Emit {
    if (this.take('(')) return this.group()
    if (this.take('[')) return this.one(this.characterClass())
    if (this.take('.')) return this.one((c) => c !== '\n')
    if (this.take('^')) return this.assert((_, at) => at === 0)
    if (this.take('$')) return this.assert((text, at) => at === text.length)
    if (this.take('\\')) return this.one(this.escape())
    const character = this.source.charAt(this.at++)
    if ('*+?'.includes(character)) throw this.refuse(`has a ${character} with nothing to repeat`)
    return this.one((c) => c === character)
  }

  private one(test: (character: string) => boolean): Emit {
    return (program) => this.push(program, { op: 'one', test })
  }

  private assert(holds: (text: string, at: number) => boolean): Emit {
    return (program) => this.push(program, { op: 'assert', holds })
  }

  private group(): Emit {
    const lookahead = this.take('?=') ? 'is' : this.take('?!') ? 'is not' : undefined
    if (lookahead === undefined && !this.take('?:') && this.source.charAt(this.at) === '?') {
      throw this.refuse('has a kind of group that is not supported')
    }
    // Within one another they would take (length of the text) ^ (depth) steps.
    if (lookahead !== undefined && this.inLookahead) throw this.refuse('has a lookahead within a lookahead')
    const outer = this.inLookahead
    this.inLookahead ||= lookahead !== undefined
    const body = this.alternatives()
    this.inLookahead = outer
    if (!this.take(')')) throw this.refuse('has an unmatched (')
    if (lookahead === undefined) return body
    const program = this.compile(body)
    return this.assert((text, at) => run(program, text, at) === (lookahead === 'is'))
  }

  private escape(): (character: string) => boolean {
    const character = this.source.charAt(this.at++)
    const known = Object.hasOwn(CLASSES, character) ? CLASSES[character] : undefined
    if (known !== undefined) return known
    if (/[A-Za-z0-9]|^$/.test(character)) throw this.refuse(`has the unsupported escape \\${character}`)
    return (c) => c === character
  }

  private characterClass(): (character: string) => boolean {
    const negated = this.take('^')
    const tests: ((character: string) => boolean)[] = []
    while (!(this.source.charAt(this.at) === ']' && tests.length > 0)) {
      if (this.at >= this.source.length) throw this.refuse('has an unmatched [')
      if (this.take('\\')) {
        tests.push(this.escape())
        continue
      }
      const low = this.source.charAt(this.at++)
      const isRange = this.source.charAt(this.at) === '-' && !']'.includes(this.source.charAt(this.at + 1))
      const high = isRange ? this.source.charAt(this.at + 1) : low
      if (isRange) this.at += 2
      tests.push((c) => c >= low && c <= high)
    }
    this.at++
    return (c) => tests.some((test) => test(c)) !== negated
  }
}

export class Pattern {
  private static readonly compiled = new Map<string, Pattern>()

  private constructor(private readonly program: readonly Instruction[]) {}

  /**
   * @param where - who says it, for messages
   * @throws BillfishError INVALID_CHECKPOINT for what is no pattern, or too large a one
   */
  static of(source: string, where: string): Pattern {
    let pattern = Pattern.compiled.get(source)
    if (pattern === undefined) {
      pattern = new Pattern(new Parser(source, where).parse())
      if (Pattern.compiled.size >= 1000) Pattern.compiled.clear()
      Pattern.compiled.set(source, pattern)
    }
    return pattern
  }

  /** True where the pattern matches the text's beginning (as Python's re.match), not necessarily all of it. */
  matchesStart(text: string): boolean {
    return run(this.program, text, 0)
  }
}
