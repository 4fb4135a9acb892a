import { PythonError, typeError } from '../errors'
import { Dict } from '../values/dict'
import { Range } from '../values/range'
import type { Runtime } from '../values/values'
import { BuiltIn, type Named, PythonObject, sequenceItems, Undefined, type Value } from '../values/values'
import { countArgument, textArgument } from './arguments'
import { strftime } from './strftime'

/** Result of `namespace()`: an object with attributes that templates may set. */
export class Namespace extends PythonObject {
  readonly typeName = 'Namespace'
  readonly #attributes: Map<string, Value>

  constructor(attributes: Map<string, Value>) {
    super()
    this.#attributes = attributes
  }

  set(rt: Runtime, name: string, value: Value): void {
    rt.budget.items(4)
    this.#attributes.set(name, value)
  }

  override attribute(_rt: Runtime, name: string): Value | undefined {
    return this.#attributes.get(name)
  }

  repr(rt: Runtime): string {
    return `<Namespace ${Dict.fromEntries(this.#attributes).repr(rt)}>`
  }
}

/** Empty on the first call, then the separator. */
class Joiner extends PythonObject {
  readonly typeName = 'Joiner'
  readonly #separator: Value
  #used = false

  constructor(separator: Value) {
    super()
    this.#separator = separator
  }

  repr(): string {
    return '<Joiner>'
  }

  override get callable(): boolean {
    return true
  }

  override call(): Value {
    const text = this.#used ? this.#separator : ''
    this.#used = true
    return text
  }
}

class Cycler extends PythonObject {
  readonly typeName = 'Cycler'
  readonly #items: readonly Value[]
  #position = 0

  constructor(items: readonly Value[]) {
    super()
    this.#items = items
  }

  repr(): string {
    return '<Cycler>'
  }

  override attribute(_rt: Runtime, name: string): Value | undefined {
    switch (name) {
      case 'current':
        return this.#items[this.#position]
      case 'next':
        return new BuiltIn('next', () => {
          const current = this.#items[this.#position] ?? null
          this.#position = (this.#position + 1) % this.#items.length
          return current
        })
      case 'reset':
        return new BuiltIn('reset', () => {
          this.#position = 0
          return null
        })
      default:
        return undefined
    }
  }
}

/** Entries of `dict(...)`: of a mapping or pairs, plus named ones. */
function dictOf(rt: Runtime, [source, ...others]: readonly Value[], named: Named): Dict {
  if (others.length > 0) throw typeError(`dict expected at most 1 argument, got ${others.length + 1}`)
  const dict = new Dict()
  const set = (key: Value, value: Value) => {
    rt.budget.items(4)
    dict.set(rt, key, value)
  }
  if (source instanceof Undefined) throw source.fault()
  if (source instanceof Dict) for (const [key, value] of source.entries()) set(key, value)
  else if (source !== undefined) {
    for (const pair of rt.iterate(source)) {
      const items = sequenceItems(pair) ?? rt.list(pair)
      const [key, value] = items
      if (items.length !== 2 || key === undefined || value === undefined) {
        throw new PythonError(
          'ValueError',
          `dictionary update sequence element has length ${items.length}; 2 is required`,
        )
      }
      set(key, value)
    }
  }
  for (const [key, value] of named ?? []) set(key, value)
  return dict
}

/** `dict.fromkeys(keys, value)` */
function dictOfKeys(rt: Runtime, args: readonly Value[], named: Named): Dict {
  if (named !== undefined) throw typeError('dict.fromkeys() takes no keyword arguments')
  const [keys, value = null] = args
  if (keys === undefined || args.length > 2) throw typeError(`fromkeys expected 1 or 2 arguments, got ${args.length}`)
  const dict = new Dict()
  for (const key of rt.iterate(keys)) {
    rt.budget.items(4)
    dict.set(rt, key, value)
  }
  return dict
}

/** The type `dict`. */
class DictType extends BuiltIn {
  constructor() {
    super('dict', dictOf, 'type')
  }

  override attribute(rt: Runtime, name: string): Value | undefined {
    return name === 'fromkeys' ? new BuiltIn(name, dictOfKeys) : super.attribute(rt, name)
  }
}

function rangeOf(args: readonly Value[], named: Named): Range {
  if (named !== undefined || args.length < 1 || args.length > 3) throw typeError('range expected 1 to 3 arguments')
  const [first = 0, second, third] = args.map((value) => countArgument(value, 0))
  return second === undefined ? new Range(0, first, 1) : new Range(first, second, third ?? 1)
}

function only(what: string, args: readonly Value[], named: Named, name: string): Value | undefined {
  const value = args.length > 0 ? args[0] : named?.get(name)
  const given = args.length + (named?.size ?? 0)
  if (given > 1 || (given === 1 && value === undefined)) throw typeError(`${what}() takes at most 1 argument '${name}'`)
  return value
}

function builtIn(name: string, work: (rt: Runtime, args: readonly Value[], named: Named) => Value, type?: string) {
  return [name, new BuiltIn(name, work, type)] as const
}

/** Global functions of Jinja2 and transformers, except lipsum, which is random text. */
export const GLOBALS: ReadonlyMap<string, Value> = new Map<string, Value>([
  builtIn('range', (_rt, args, named) => rangeOf(args, named), 'function'),
  ['dict', new DictType()],
  builtIn(
    'namespace',
    (rt, args, named) => {
      const attributes = new Map<string, Value>()
      for (const [key, value] of dictOf(rt, args, named).entries()) {
        attributes.set(typeof key === 'string' ? key : rt.repr(key), value)
      }
      return new Namespace(attributes)
    },
    'type',
  ),
  builtIn('joiner', (_rt, args, named) => new Joiner(only('joiner', args, named, 'sep') ?? ', '), 'type'),
  builtIn(
    'cycler',
    (_rt, args) => {
      if (args.length === 0) throw new PythonError('RuntimeError', 'at least one item has to be provided')
      return new Cycler(args)
    },
    'type',
  ),
  builtIn(
    'raise_exception',
    (rt, args, named) => {
      const message = only('raise_exception', args, named, 'message')
      if (message === undefined) throw typeError("raise_exception() is missing the argument 'message'")
      throw new PythonError('TemplateError', rt.str(message))
    },
    'function',
  ),
  builtIn(
    'strftime_now',
    (rt, args, named) => {
      const format = textArgument(only('strftime_now', args, named, 'format'), 'strftime() argument')
      rt.budget.walk(format.length * 4)
      rt.budget.text(format.length * 8)
      return strftime(rt.now, format)
    },
    'function',
  ),
])
