/** Limits on compiling or rendering one template. */
export interface BudgetLimits {
  /** Units of work of about 10 to 50 ns: evaluating a node, visiting an item, copying a run of characters. */
  readonly steps: number
  /** Total bytes of strings, lists and numbers created, output included, whether or not they are still in use. */
  readonly bytes: number
  /** Nesting of macro calls and recursive loops, and of values and expressions. */
  readonly depth: number
  /** Wall-clock time. */
  readonly milliseconds: number
}

/** The limit of a {@link Budget} that was exceeded. */
export class BudgetExhausted extends Error {
  readonly limit: keyof BudgetLimits

  constructor(limit: keyof BudgetLimits, limits: BudgetLimits) {
    super(describe(limit, limits))
    this.name = 'BudgetExhausted'
    this.limit = limit
  }
}

function describe(limit: keyof BudgetLimits, limits: BudgetLimits): string {
  switch (limit) {
    case 'steps':
      return `more than ${limits.steps} steps of work`
    case 'bytes':
      return `more than ${limits.bytes} bytes of text and lists`
    case 'depth':
      return `more than ${limits.depth} nested levels`
    case 'milliseconds':
      return `more than ${limits.milliseconds} milliseconds`
  }
}

/** Overhead of strings, lists and boxed numbers besides their contents. */
const OBJECT_BYTES = 32
const ITEM_BYTES = 8
/** Steps between checks of the clock. */
const SLICE = 4096
/** Characters that a native string function processes in about one step. */
const CHARACTERS_PER_STEP = 128
/** Characters that a JavaScript loop processes in about one step. */
const WALKED_PER_STEP = 4

/**
 * Meters the resources of a template and aborts it with {@link BudgetExhausted}. All work that a template can make
 * expensive is charged before it is done.
 */
export class Budget {
  readonly limits: BudgetLimits
  readonly #deadline: number
  #slice = SLICE
  #stepsBefore = 0
  #bytes: number
  #depth: number

  constructor(limits: BudgetLimits) {
    this.limits = limits
    this.#deadline = performance.now() + limits.milliseconds
    this.#bytes = limits.bytes
    this.#depth = limits.depth
  }

  /** Steps used so far. */
  get steps(): number {
    return this.#stepsBefore + SLICE - this.#slice
  }

  step(count = 1): void {
    this.#slice -= count
    if (this.#slice < 0) this.#nextSlice()
  }

  #nextSlice(): void {
    this.#stepsBefore += SLICE - this.#slice
    this.#slice = SLICE
    if (this.#stepsBefore > this.limits.steps) throw new BudgetExhausted('steps', this.limits)
    if (performance.now() > this.#deadline) throw new BudgetExhausted('milliseconds', this.limits)
  }

  /** Charges a new string. */
  text(length: number): void {
    this.#bytes -= length + OBJECT_BYTES
    if (this.#bytes < 0) throw new BudgetExhausted('bytes', this.limits)
    this.#slice -= length / CHARACTERS_PER_STEP
    if (this.#slice < 0) this.#nextSlice()
  }

  /** Charges a new list, tuple or dict, or the growth of one. */
  items(count: number): void {
    this.#bytes -= count * ITEM_BYTES + OBJECT_BYTES
    if (this.#bytes < 0) throw new BudgetExhausted('bytes', this.limits)
    this.step(count / WALKED_PER_STEP)
  }

  /** Charges a native function that reads `length` characters. */
  scan(length: number): void {
    this.step(length / CHARACTERS_PER_STEP)
  }

  /** Charges a loop over `length` characters. */
  walk(length: number): void {
    this.step(length / WALKED_PER_STEP)
  }

  enter(): void {
    if (--this.#depth < 0) throw new BudgetExhausted('depth', this.limits)
  }

  leave(): void {
    this.#depth++
  }
}
