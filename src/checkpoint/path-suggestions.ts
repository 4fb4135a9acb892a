/** Suggests which path may have been meant when one is not a checkpoint. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/** A model name on the Hub, `Qwen/Qwen2.5-7B-Instruct`, rather than a path. */
const HUB_NAME = /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/
/** URL prefixes of such a name. */
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
    return HUB_NAME.test(name) ? hubHint(name) : ''
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

/** For a Hub name: its location in the cache, or how to download it. */
async function hubHint(name: string): Promise<string> {
  const cached = join(hubCache(), `models--${name.replace('/', '--')}`)
  const snapshot = await snapshotIn(cached, (await namesIn(cached)) ?? [])
  if (snapshot !== undefined) return `; the Hub cache has this model: open ${snapshot}`
  const local = name.slice(name.indexOf('/') + 1)
  return `; to download it from the Hugging Face Hub, run hf download ${name} --local-dir ${local}, and open ${local}`
}

async function cacheHint(path: string, models: readonly string[]): Promise<string> {
  const [first = ''] = models
  const directory = join(path, first)
  const snapshot = await snapshotIn(directory, (await namesIn(directory)) ?? [])
  const example = snapshot ?? join(directory, 'snapshots', '<revision>')
  return `; this is the Hub cache, with ${models.length === 1 ? 'one model' : `${models.length} models`}: open a snapshot, such as ${example}`
}

/** Location of the Hub cache, as huggingface_hub determines it. */
function hubCache(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, 'hub')
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
