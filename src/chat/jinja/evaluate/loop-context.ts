import { typeError } from '../errors'
import { equal } from '../values/compare'
import { BuiltIn, type Named, orElse, PythonObject, type Runtime, Tuple, Undefined, type Value } from '../values/values'

/** The variable `loop` of a for loop, which also drives the iteration. */
export class LoopContext extends PythonObject {
  readonly typeName = 'LoopContext'
  readonly #depth0: number
  readonly #recurse: ((iterable: Value, depth0: number) => Value) | undefined
  #iterator: Iterator<Value>
  #length: number | undefined
  #index0 = -1
  #previous: Value | undefined
  #current: Value | undefined
  /** The next item, if it was peeked at; null at the end. */
  #ahead: { readonly item: Value } | null | undefined
  #changed: Tuple | undefined

  /**
   * @param length number of items, if known
   * @param recurse renders the loop for other items; undefined unless the loop is recursive
   */
  constructor(
    iterator: Iterator<Value>,
    length: number | undefined,
    depth0: number,
    recurse: ((iterable: Value, depth0: number) => Value) | undefined,
  ) {
    super()
    this.#iterator = iterator
    this.#length = length
    this.#depth0 = depth0
    this.#recurse = recurse
  }

  /** The next item; undefined at the end. */
  advance(): Value | undefined {
    const next = this.#peek()
    this.#ahead = undefined
    if (next === null) return undefined
    this.#index0++
    this.#previous = this.#current
    this.#current = next.item
    return next.item
  }

  #peek(): { readonly item: Value } | null {
    if (this.#ahead === undefined) {
      const next = this.#iterator.next()
      this.#ahead = next.done ? null : { item: next.value }
    }
    return this.#ahead
  }

  #count(rt: Runtime): number {
    if (this.#length === undefined) {
      const rest: Value[] = []
      for (let next = this.#iterator.next(); !next.done; next = this.#iterator.next()) {
        rt.budget.items(1)
        rest.push(next.value)
      }
      this.#iterator = rest.values()
      this.#length = rest.length + this.#index0 + 1 + (this.#ahead ? 1 : 0)
    }
    return this.#length
  }

  repr(rt: Runtime): string {
    return `<LoopContext ${this.#index0 + 1}/${this.#count(rt)}>`
  }

  override truth(rt: Runtime): boolean {
    return this.#count(rt) > 0
  }

  override length(rt: Runtime): number {
    return this.#count(rt)
  }

  override attribute(rt: Runtime, name: string): Value | undefined {
    switch (name) {
      case 'index':
        return this.#index0 + 1
      case 'index0':
        return this.#index0
      case 'revindex':
        return this.#count(rt) - this.#index0
      case 'revindex0':
        return this.#count(rt) - this.#index0 - 1
      case 'first':
        return this.#index0 === 0
      case 'last':
        return this.#peek() === null
      case 'length':
        return this.#count(rt)
      case 'depth':
        return this.#depth0 + 1
      case 'depth0':
        return this.#depth0
      case 'previtem':
        return orElse(this.#previous, () => new Undefined('there is no previous item'))
      case 'nextitem':
        return orElse(this.#peek()?.item, () => new Undefined('there is no next item'))
      case 'cycle':
        return new BuiltIn('cycle', (_rt, args) => this.#cycle(args))
      case 'changed':
        return new BuiltIn('changed', (runtime, args) => this.#hasChanged(runtime, args))
      default:
        return undefined
    }
  }

  #cycle(args: readonly Value[]): Value {
    const value = args[this.#index0 % args.length]
    if (value === undefined) throw typeError('no items for cycling given')
    return value
  }

  #hasChanged(rt: Runtime, args: readonly Value[]): boolean {
    const value = new Tuple(args)
    if (this.#changed && equal(rt, this.#changed, value)) return false
    this.#changed = value
    return true
  }

  override get callable(): boolean {
    return true
  }

  override call(_rt: Runtime, [iterable, ...others]: readonly Value[], named: Named): Value {
    if (iterable === undefined || others.length > 0 || named !== undefined) {
      throw typeError('loop() takes exactly one argument')
    }
    if (!this.#recurse) throw typeError("The loop must have the 'recursive' marker to be called recursively.")
    return this.#recurse(iterable, this.#depth0 + 1)
  }
}
