import { BillfishError } from '../common/errors'
import { closest, spelling } from './closest'
import { foreignName } from './foreign-names'

interface Names {
  readonly of: string
  readonly names: readonly string[]
}

/**
 * The error for an unknown option. It gives the right name of one that is misspelled or spelled as in Python's libraries,
 * the function that an option of another function belongs to, or what to do instead of an option that does not exist.
 * @param option its name in messages
 * @param of the function that it was passed to
 * @param entryPoints the options of all functions, including `of`
 * @param name its bare name
 */
export function noSuchOption(
  option: string,
  of: string,
  entryPoints: readonly Names[],
  name: string = option,
): BillfishError {
  const own = entryPoints.find((entry) => entry.of === of)?.names ?? []
  const others = entryPoints.filter((entry) => entry.of !== of)
  const foreign = foreignName(name)
  const called = foreign !== undefined && 'name' in foreign ? foreign.name : name

  const here = spelled(name, own) ?? spelled(called, own)
  if (here !== undefined) return error(`There is no option ${shorten(option)} of ${of}; it is called ${here}.`)
  const owner = others.find(({ names }) => spelled(called, names) !== undefined)
  const list = own.length === 0 ? `${of} takes none` : `The options of ${of} are ${own.join(', ')}`
  if (foreign !== undefined && 'instead' in foreign) {
    return error(`There is no option ${shorten(option)}: ${foreign.instead}. ${list}.`)
  }
  const near = closest(name, own)
  if (near !== undefined) {
    return error(`There is no option ${shorten(option)} of ${of}; did you mean ${near}? ${list}.`)
  }
  if (owner !== undefined) {
    const there = spelled(called, owner.names)
    return error(`There is no option ${shorten(option)} of ${of}; ${there} is an option of ${owner.of}. ${list}.`)
  }
  return error(`There is no option ${shorten(option)}. ${list}.`)
}

function spelled(name: string, names: readonly string[]): string | undefined {
  return names.find((other) => spelling(other) === spelling(name))
}

function shorten(option: string): string {
  return option.length > 100 ? `${option.slice(0, 100)}...` : option
}

function error(message: string): BillfishError {
  return new BillfishError('INVALID_OPTION', message)
}
