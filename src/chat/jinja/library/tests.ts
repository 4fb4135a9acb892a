import { typeError } from '../errors'
import { binary } from '../evaluate/operators'
import { isLower, isUpper } from '../values/characters'
import { contains, equal, type OrderOperator, ordered } from '../values/compare'
import { Dict } from '../values/dict'
import { Range } from '../values/range'
import type { Runtime } from '../values/values'
import { Float, Markup, type Named, PythonObject, Tuple, textOf, Undefined, type Value } from '../values/values'
import { bind, parameters } from './arguments'

/** A test, as after `is`. */
export type Test = (rt: Runtime, value: Value, args: readonly Value[], named: Named) => boolean

function test(
  name: string,
  signature: string,
  work: (rt: Runtime, value: Value, other: Value) => boolean,
): [string, Test] {
  const names = parameters(signature)
  return [
    name,
    (rt, value, args, named) => {
      const [other = null] = bind(`the test '${name}'`, names, args, named)
      return work(rt, value, other)
    },
  ]
}

function is(name: string, work: (value: Value) => boolean): [string, Test] {
  return test(name, '', (_rt, value) => work(value))
}

function comparing(operator: OrderOperator, ...names: string[]): [string, Test][] {
  return names.map((name) => test(name, 'other /', (rt, value, other) => ordered(rt, operator, value, other)))
}

function isInt(value: Value): boolean {
  return typeof value === 'number' || typeof value === 'bigint'
}

function isSequence(value: Value): boolean {
  const isKnown =
    value instanceof Dict || value instanceof Tuple || value instanceof Range || value instanceof Undefined
  return Array.isArray(value) || isKnown || textOf(value) !== undefined
}

function isSame(a: Value, b: Value): boolean {
  return a === b && (typeof a !== 'object' || a === null || !(a instanceof Float))
}

const equality = ['==', 'eq', 'equalto'].map((name) => test(name, 'other /', equal))
const inequality = ['!=', 'ne'].map((name) => test(name, 'other /', (rt, a, b) => !equal(rt, a, b)))

/** The tests of Jinja2. @param filters what the test `filter` looks up */
export function createTests(filters: ReadonlyMap<string, unknown>): ReadonlyMap<string, Test> {
  const tests: ReadonlyMap<string, Test> = new Map([
    test('odd', '', (rt, value) => equal(rt, binary(rt, '%', value, 2), 1)),
    test('even', '', (rt, value) => equal(rt, binary(rt, '%', value, 2), 0)),
    test('divisibleby', 'num', (rt, value, num) => equal(rt, binary(rt, '%', value, num), 0)),
    is('defined', (value) => !(value instanceof Undefined)),
    is('undefined', (value) => value instanceof Undefined),
    test('filter', '', (_rt, value) => filters.has(named(value))),
    test('test', '', (_rt, value) => tests.has(named(value))),
    is('none', (value) => value === null),
    is('boolean', (value) => typeof value === 'boolean'),
    is('false', (value) => value === false),
    is('true', (value) => value === true),
    is('integer', isInt),
    is('float', (value) => value instanceof Float),
    is('number', (value) => isInt(value) || typeof value === 'boolean' || value instanceof Float),
    test('lower', '', (rt, value) => isLower(rt.str(value))),
    test('upper', '', (rt, value) => isUpper(rt.str(value))),
    is('string', (value) => textOf(value) !== undefined),
    is('mapping', (value) => value instanceof Dict),
    is('sequence', isSequence),
    test('iterable', '', (rt, value) => rt.iteratorOf(value) !== undefined),
    is('callable', (value) => value instanceof PythonObject && value.callable),
    test('sameas', 'other', (_rt, value, other) => isSame(value, other)),
    is('escaped', (value) => value instanceof Markup),
    test('in', 'seq', (rt, value, sequence) => contains(rt, sequence, value)),
    ...equality,
    ...inequality,
    ...comparing('>', '>', 'gt', 'greaterthan'),
    ...comparing('>=', '>=', 'ge'),
    ...comparing('<', '<', 'lt', 'lessthan'),
    ...comparing('<=', '<=', 'le'),
  ])
  return tests
}

/** The name of a filter or test that is asked for. */
function named(value: Value): string {
  if (Array.isArray(value) || value instanceof Dict) throw typeError('unhashable type')
  return textOf(value) ?? ''
}
