/** The models that a command line names: `DIRECTORY`, `OWNER/NAME` on the Hub, or either after `NAME=`. */
import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { BillfishError } from '../common/errors'
import { isOnHub } from '../hub/checkpoint-directory'
import { parseHubName } from '../hub/hub-name'

export interface NamedDirectory {
  /** What requests call it. */
  readonly names: readonly string[]
  /** A directory, or a name on the Hub. */
  readonly directory: string
}

/**
 * @param servedNames those of `--served-model-name`, all of one model
 * @throws BillfishError INVALID_OPTION for them beside several models, and where two models have the same name
 */
export async function namedDirectories(
  given: readonly string[],
  servedNames: readonly string[] | undefined,
): Promise<NamedDirectory[]> {
  if (servedNames !== undefined && given.length > 1) {
    const message = `--served-model-name names one model, and there are ${given.length}: write NAME=DIRECTORY for each.`
    throw new BillfishError('INVALID_OPTION', message)
  }
  const named = await Promise.all(given.map((text) => readNamed(text, servedNames)))
  const all = named.flatMap(({ names }) => names)
  const twice = all.find((name, index) => all.indexOf(name) !== index)
  if (twice !== undefined) {
    throw new BillfishError(
      'INVALID_OPTION',
      `Two models would be named ${twice}: write NAME=DIRECTORY for one of them.`,
    )
  }
  return named
}

async function readNamed(text: string, servedNames: readonly string[] | undefined): Promise<NamedDirectory> {
  const [, name, rest] = (!existsSync(text) && /^([^=]+)=(.+)$/s.exec(text)) || []
  const directory = rest ?? text
  if (servedNames) return { names: servedNames, directory }
  return { names: [name ?? (await nameOf(directory))], directory }
}

/** The Hub's name of a model, or the name of its directory. */
async function nameOf(directory: string): Promise<string> {
  return ((await isOnHub(directory)) && parseHubName(directory)?.repo) || basename(resolve(directory))
}
