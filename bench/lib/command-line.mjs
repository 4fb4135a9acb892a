import { parseArgs } from 'node:util'

/** What went wrong, in words that need no stack. */
export class Failure extends Error {}

/** A mistake in the command line. */
export class UsageError extends Failure {}

/** An option that is a whole number. */
export const count = (byDefault, least = 1) => ({ type: 'string', default: String(byDefault), least })

/** An option that is one or more of some words, with commas between them. */
export const words = (byDefault, known) => ({ type: 'string', default: byDefault, known })

/** An option that is one of some words. */
export const choice = (byDefault, known) => ({ ...words(byDefault, known), single: true })

/**
 * Reads a benchmark's options.
 * @param usage what --help prints
 * @param options as parseArgs() takes them, or what count() and words() make
 * @returns the values, numbers and lists among them as such; undefined if --help was asked for, and has been printed
 * @throws UsageError naming the option and what it may be
 */
export function readArguments(usage, args, options) {
  const { values } = parsed(usage, args, { ...options, help: { type: 'boolean', default: false } })
  if (values.help) {
    console.log(usage)
    return undefined
  }
  for (const [name, { least, known, single }] of Object.entries(options)) {
    const text = values[name]
    if (least !== undefined) {
      if (!/^\d{1,15}$/.test(text) || Number(text) < least) {
        throw new UsageError(`--${name} is '${text}', but must be a whole number of at least ${least}.`)
      }
      values[name] = Number(text)
    } else if (known !== undefined) {
      const given = single ? [text] : text.split(',')
      const stranger = given.find((word) => !known.includes(word))
      if (stranger !== undefined) {
        throw new UsageError(`--${name}: there is no '${stranger}'; there is ${known.join(', ')}.`)
      }
      if (!single) values[name] = given
    }
  }
  return values
}

function parsed(usage, args, options) {
  try {
    return parseArgs({ args, options })
  } catch (error) {
    throw new UsageError(`${error.message.split(/[.\n]/)[0]}.\n${usage}`)
  }
}
