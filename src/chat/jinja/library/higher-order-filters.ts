import { PythonError } from '../errors'
import { truth } from '../values/compare'
import type { Runtime } from '../values/values'
import { type Named, OneShotIterator, textOf, type Value } from '../values/values'
import { argumentError, type Filter, getter } from './filter'
import type { Test } from './tests'

type Step = (item: Value) => Value

/** The filters and tests that can be applied by name. */
interface Library {
  readonly filters: ReadonlyMap<string, Filter>
  readonly tests: ReadonlyMap<string, Test>
}

/** The function that `map` applies: an attribute lookup or a filter. */
function mapFunction({ filters }: Library, rt: Runtime, args: readonly Value[], named: Named): Step {
  const attribute = named?.get('attribute')
  if (args.length === 0 && attribute !== undefined) {
    for (const name of named?.keys() ?? []) {
      if (name !== 'attribute' && name !== 'default') throw argumentError(`Unexpected keyword argument '${name}'`)
    }
    return getter(rt, attribute, { otherwise: named?.get('default') })
  }
  const [name, ...rest] = args
  if (name === undefined) throw argumentError('map requires a filter argument')
  const filter = filters.get(textOf(name) ?? '')
  if (!filter) throw new PythonError('TemplateRuntimeError', `No filter named ${rt.repr(name)}.`)
  return (item) => filter(rt, item, rest, named)
}

/** The predicate of `select` and its variants: a test, or truthiness. */
function selectFunction(
  { tests }: Library,
  rt: Runtime,
  given: readonly Value[],
  named: Named,
  byAttribute: boolean,
): Step {
  const [attribute, ...others] = given
  if (byAttribute && attribute === undefined) throw argumentError('Missing parameter for attribute name')
  const get = getter(rt, byAttribute ? attribute : null)
  const [name, ...rest] = byAttribute ? others : given
  if (name === undefined) return (item) => truth(rt, get(item))
  const test = tests.get(textOf(name) ?? '')
  if (!test) throw new PythonError('TemplateRuntimeError', `No test named ${rt.repr(name)}.`)
  return (item) => test(rt, get(item), rest, named)
}

/** Jinja2 evaluates the arguments only when the first item is requested and the input is not empty. */
function* lazily(rt: Runtime, value: Value, begin: () => (item: Value) => Value | undefined): Generator<Value> {
  if (!truth(rt, value)) return
  const work = begin()
  for (const item of rt.iterate(value)) {
    const result = work(item)
    if (result !== undefined) yield result
  }
}

function selecting(library: Library, name: string, keeps: boolean, byAttribute: boolean): [string, Filter] {
  return [
    name,
    (rt, value, args, named) => {
      const begin = () => {
        const test = selectFunction(library, rt, args, named, byAttribute)
        return (item: Value) => (truth(rt, test(item)) === keeps ? item : undefined)
      }
      return new OneShotIterator(lazily(rt, value, begin))
    },
  ]
}

/** Filters that apply other filters and tests by name. */
export function higherOrderFilters(library: Library): readonly [string, Filter][] {
  return [
    [
      'map',
      (rt, value, args, named) => new OneShotIterator(lazily(rt, value, () => mapFunction(library, rt, args, named))),
    ],
    selecting(library, 'select', true, false),
    selecting(library, 'reject', false, false),
    selecting(library, 'selectattr', true, true),
    selecting(library, 'rejectattr', false, true),
  ]
}
