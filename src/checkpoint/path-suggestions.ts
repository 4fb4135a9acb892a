/** What a path that is no checkpoint may have been meant to be, and the path to give instead. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/** `Qwen/Qwen2.5-7B-Instruct`: how models are named on the Hub, and how no path on a disk is meant to look. */
const HUB_NAME = /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/
/** What may stand before such a name: an address in a browser, or of a file system. */
const HUB_ADDRESS = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/|^hf:\/\/(?:models\/)?/
/** How the cache of the Hub names a model's directory. */
const CACHED_NAME = /^models--([\w.-]+?)--([\w.-]+)$/
/** Directories that are looked at for a better path. */
const MOST_LOOKED_AT = 64

/**
 * A sentence that begins with `; `, or nothing.
 * @param given the path as the user gave it
 * @param path the same, absolute
 */
export async function suggestPath(given: string, path: string): Promise<string> {
  const names = await namesIn(path)
  if (names === undefined) {
    if (await isFile(path)) return `; give the directory that it is in, ${dirname(path)}`
    if (given.startsWith('~')) return `; only a shell reads ~ as ${homedir()}: write the path out`
    const name = given.replace(HUB_ADDRESS, '').replace(CACHED_NAME, '$1/$2')
    return HUB_NAME.test(name) ? hubHint(name) : ''
  }
  const snapshot = await snapshotIn(path, names)
  if (snapshot !== undefined) return `; this is a model's directory in the cache of the Hub: open ${snapshot}`
  const cached = names.filter((name) => name.startsWith('models--'))
  if (cached.length > 0) return cacheHint(path, cached)
  for (const name of names.slice(0, MOST_LOOKED_AT)) {
    if (await isFile(join(path, name, 'config.json'))) return `; there is one in ${join(path, name)}`
  }
  return ''
}

/** For a name on the Hub: where the cache has it, or how to download it. */
async function hubHint(name: string): Promise<string> {
  const cached = join(hubCache(), `models--${name.replace('/', '--')}`)
  const snapshot = await snapshotIn(cached, (await namesIn(cached)) ?? [])
  if (snapshot !== undefined) return `; the cache of the Hub has the model of that name: open ${snapshot}`
  const local = name.slice(name.indexOf('/') + 1)
  return `; for the model of that name on the Hugging Face Hub, run hf download ${name} --local-dir ${local}, and open ${local}`
}

async function cacheHint(path: string, models: readonly string[]): Promise<string> {
  const [first = ''] = models
  const directory = join(path, first)
  const snapshot = await snapshotIn(directory, (await namesIn(directory)) ?? [])
  const example = snapshot ?? join(directory, 'snapshots', '<revision>')
  return `; this is the cache of the Hub, with ${models.length === 1 ? 'one model' : `${models.length} models`}: open one's snapshot, such as ${example}`
}

/** The cache's place, as huggingface_hub finds it. */
function hubCache(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, 'hub')
}

/** The snapshot of a model in the cache: of its main branch, or any. */
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
    return undefined // not there, not a directory, or not ours to read: nothing to hint at
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (status) => status.isFile(),
    () => false,
  )
}
