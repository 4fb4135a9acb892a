/** Suggests which path may have been meant when one is not a checkpoint. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseHubName } from './hub-name'

/** URL prefixes of a model's name on the Hub. */
const HUB_ADDRESS = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/|^hf:\/\/(?:models\/)?/
/** Directory name of a model in the Hub cache. */
const CACHED_NAME = /^models--([\w.-]+?)--([\w.-]+)$/
/** Limit of subdirectories that are searched. */
const MAX_SEARCHED = 64

/**
 * A clause starting with `; `, or an empty string.
 * @param given path as the user gave it
 * @param path the same path, absolute
 */
export async function suggestPath(given: string, path: string): Promise<string> {
  const names = await namesIn(path)
  if (names === undefined) {
    if (await isFile(path)) return `; pass its directory, ${dirname(path)}`
    if (given.startsWith('~')) return `; only shells expand ~ to ${homedir()}: pass the full path`
    const name = given.replace(HUB_ADDRESS, '').replace(CACHED_NAME, '$1/$2')
    return parseHubName(name) === undefined ? '' : `; the Hub's model is called ${name}, which downloads it`
  }
  const snapshot = await snapshotIn(path, names)
  if (snapshot !== undefined) return `; this is a model directory of the Hub cache: open ${snapshot}`
  const cached = names.filter((name) => name.startsWith('models--'))
  if (cached.length > 0) return cacheHint(path, cached)
  for (const name of names.slice(0, MAX_SEARCHED)) {
    if (await isFile(join(path, name, 'config.json'))) return `; there is one in ${join(path, name)}`
  }
  return ''
}

async function cacheHint(path: string, models: readonly string[]): Promise<string> {
  const [first = ''] = models
  const directory = join(path, first)
  const snapshot = await snapshotIn(directory, (await namesIn(directory)) ?? [])
  const example = snapshot ?? join(directory, 'snapshots', '<revision>')
  return `; this is the Hub cache, with ${models.length === 1 ? 'one model' : `${models.length} models`}: open a snapshot, such as ${example}`
}

/** The cached snapshot of the main branch, or any other. */
async function snapshotIn(directory: string, names: readonly string[]): Promise<string | undefined> {
  if (!names.includes('snapshots')) return undefined
  const snapshots = join(directory, 'snapshots')
  const known = (await namesIn(snapshots)) ?? []
  const main = await readFile(join(directory, 'refs', 'main'), 'utf8').catch(() => '')
  const revision = known.includes(main.trim()) ? main.trim() : known[0]
  return revision === undefined ? undefined : join(snapshots, revision)
}

async function namesIn(directory: string): Promise<string[] | undefined> {
  try {
    return (await readdir(directory)).sort()
  } catch {
    return undefined // missing, not a directory, or unreadable: nothing to suggest
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (status) => status.isFile(),
    () => false,
  )
}
