import { fileURLToPath } from 'node:url'
import { BillfishError } from '../common/errors'
import { invalidOption, printed } from './printed'
import { guarded } from './snapshot'

/** The longest path of any system, in characters. Longer texts are not paths and would make endless messages. */
const LONGEST_PATH = process.platform === 'win32' ? 32_767 : 4096

/**
 * Reads a path from a caller: a string, or a file: URL such as `new URL('./model', import.meta.url)`.
 * @param name its name in messages
 * @param wanted what it must be, in messages
 * @throws BillfishError INVALID_OPTION for anything else
 */
export function readPath(given: unknown, name: string, wanted = 'a path, as a string or a file: URL'): string {
  const path = guarded(name, () => (isUrl(given) ? pathOf(given, name) : given))
  if (typeof path !== 'string') throw invalidOption(name, path, wanted)
  if (path === '') throw new BillfishError('INVALID_OPTION', `${name} is an empty string, but must be ${wanted}.`)
  if (path.includes('\0')) {
    throw new BillfishError('INVALID_OPTION', `${name} is ${printed(path)}, but a path has no null character in it.`)
  }
  if (path.length > LONGEST_PATH) {
    const lengths = `it has ${path.length} characters, and a path at most ${LONGEST_PATH}`
    throw invalidOption(name, path, `${wanted}: ${lengths}`)
  }
  if (/^file:\/\//i.test(path)) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${name} is the URL ${printed(path)} as a string. Give new URL(...) itself, or a path.`,
    )
  }
  return path
}

/** Whether a value is a URL object, of any realm. */
export function isUrl(value: unknown): value is URL {
  if (value instanceof URL) return true
  if (typeof value !== 'object' || value === null) return false
  const { href, protocol, pathname } = value as Partial<URL>
  return typeof href === 'string' && typeof protocol === 'string' && typeof pathname === 'string'
}

function pathOf({ protocol, href }: URL, name: string): string {
  if (protocol === 'file:') return fileURLToPath(href)
  throw new BillfishError('INVALID_OPTION', `${name} is the URL ${printed(href)}, but only file: URLs are paths.`)
}
