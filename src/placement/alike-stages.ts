/**
 * Which stages need the same buffers. Values die within a layer or two, so layers of one shape that follow each other need
 * what two of them need, and a pattern of layers that repeats (five with a window, one without) what two rounds of it need.
 */

/** Groups of one shape that follow each other. */
interface Run {
  readonly index: number
  readonly begin: number
  readonly end: number
}

/** Layers of the longest pattern that is looked for; longer ones only make for more kinds of stages. */
const LONGEST_PATTERN = 16

export class AlikeStages {
  readonly #shapes: readonly number[]
  readonly #runs: readonly Run[]
  /** For each group the run that it is in. */
  readonly #runOf: readonly Run[]
  /** The stages that begin with so many groups (1 or 2) of a run, by how they end. */
  readonly #beginnings: Beginning[] = []
  /** By the shapes of their groups. */
  readonly #known = new Map<string, readonly number[]>()

  /** @param shapes a number for each group; equal numbers are equal shapes */
  constructor(shapes: readonly number[]) {
    this.#shapes = shapes
    this.#runs = runsOf(shapes)
    this.#runOf = this.#runs.flatMap((run) => Array.from({ length: run.end - run.begin }, () => run))
  }

  /** Groups that need the buffers which groups [first, end) need: the same array for all stages that are alike. */
  standingFor(first: number, end: number): readonly number[] {
    const from = this.#runOf[first] as Run
    const to = this.#runOf[end - 1] as Run
    const ofFirst = Math.min(2, Math.min(from.end, end) - first)
    const ofLast = Math.min(2, end - Math.max(to.begin, first))
    const index = 2 * from.index + ofFirst - 1
    this.#beginnings[index] ??= new Beginning(this.#shapes, this.#known, from, ofFirst)
    return (this.#beginnings[index] as Beginning).upTo(this.#runs, to, ofLast)
  }
}

/** Grows run by run, folding what repeats. */
class Beginning {
  readonly #shapes: readonly number[]
  readonly #known: Map<string, readonly number[]>
  readonly #from: Run
  readonly #kept: number[] = []
  /** What stands for the stages with so many groups (1 or 2) of each later run as their last ones. */
  readonly #ends: (readonly number[])[] = []
  #grown: number

  constructor(shapes: readonly number[], known: Map<string, readonly number[]>, from: Run, groups: number) {
    this.#shapes = shapes
    this.#known = known
    this.#from = from
    this.#grown = from.index
    for (let i = 0; i < groups; i++) this.#add(from.begin + i)
    this.#note(from.index, groups)
  }

  upTo(runs: readonly Run[], to: Run, groups: number): readonly number[] {
    while (this.#grown < to.index) {
      this.#grown++
      const { begin, end } = runs[this.#grown] as Run
      for (let i = 0; i < Math.min(2, end - begin); i++) {
        this.#add(begin + i)
        this.#note(this.#grown, i + 1)
      }
    }
    const last = to === this.#from ? this.#ends[0] : this.#ends[2 * (to.index - this.#from.index) + groups - 1]
    return last as readonly number[]
  }

  #add(group: number): void {
    const kept = this.#kept
    kept.push(group)
    for (let pattern = 1; pattern <= LONGEST_PATTERN && 3 * pattern <= kept.length; pattern++) {
      if (!this.#repeats(pattern)) continue
      kept.length -= pattern
      return
    }
  }

  /** Whether what is kept ends with three rounds of a pattern of so many groups. */
  #repeats(pattern: number): boolean {
    const [kept, shapes] = [this.#kept, this.#shapes]
    for (let i = kept.length - 1; i >= kept.length - 2 * pattern; i--) {
      if (shapes[kept[i] as number] !== shapes[kept[i - pattern] as number]) return false
    }
    return true
  }

  #note(run: number, groups: number): void {
    const key = this.#kept.map((group) => this.#shapes[group]).join(' ')
    const groupsLike = this.#known.get(key) ?? [...this.#kept]
    this.#known.set(key, groupsLike)
    this.#ends[run === this.#from.index ? 0 : 2 * (run - this.#from.index) + groups - 1] = groupsLike
  }
}

function runsOf(shapes: readonly number[]): Run[] {
  const runs: Run[] = []
  for (let begin = 0; begin < shapes.length; ) {
    let end = begin + 1
    while (end < shapes.length && shapes[end] === shapes[begin]) end++
    runs.push({ index: runs.length, begin, end })
    begin = end
  }
  return runs
}
