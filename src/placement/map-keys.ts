/** What the keys of a device map name: modules, several of them, or what lies inside one. */

/** Text models inside larger ones, as releases and Hugging Face's classes call them; longer ones first. */
const WRAPPERS = ['model.language_model', 'language_model.model', 'language_model', 'model', 'transformer']

/**
 * Parts that whole checkpoints have beside the text model, and rotary embeddings, which have no weights: every stage
 * computes them for itself. Where they are placed does not matter.
 */
const NOT_PLACED =
  /(^|\.)(rotary_emb|mtp|draft|eagle|visual|vision\w*|audio\w*|multi_modal_projector|mm_projector|talker|code2wav)(\.|$)/

/**
 * A head over the vocabulary, or one that classifies or scores. Of a model that has none, whole maps made for others may
 * name one.
 */
const HEAD = /(^|\.)(lm_head|score|classifier|v_head|embed_out)(\.|$)/

/** A key's meaning: every module under `prefix` (all for `''`), one `module` by its name or by a part of it, or nothing. */
export type KeyMeaning = { readonly prefix: string } | { readonly module: string } | 'not placed'

/** Knows what keys mean for a model. */
export class MapKeys {
  readonly #modules: ReadonlySet<string>
  readonly #prefixes = new Set<string>([''])
  /** What decoder layers, embedding and norm are in: `model`. */
  readonly #root: string

  /** @param modules what is placed as a whole: embedding, each decoder layer, final norm, head */
  constructor(modules: readonly string[]) {
    this.#modules = new Set(modules)
    for (const module of modules) for (const prefix of prefixesOf(module)) this.#prefixes.add(prefix)
    this.#root = parentOf(modules[0] ?? '')
  }

  /** Undefined for what the model does not have. Names may have or lack the prefixes that releases put before them. */
  meaningOf(key: string): KeyMeaning | undefined {
    for (const name of this.#spellings(key)) {
      if (this.#prefixes.has(name)) return { prefix: name }
      const module = [name, ...prefixesOf(name)].find((prefix) => this.#modules.has(prefix))
      if (module !== undefined) return { module }
    }
    return NOT_PLACED.test(key) || HEAD.test(key) ? 'not placed' : undefined
  }

  *#spellings(key: string): Iterable<string> {
    yield key
    yield joined(this.#root, key)
    for (const wrapper of WRAPPERS) {
      // The language model has its head in it; its `model` does not.
      if (key === wrapper) yield wrapper === 'language_model' ? '' : this.#root
      if (!key.startsWith(`${wrapper}.`)) continue
      const rest = key.slice(wrapper.length + 1)
      yield rest
      yield joined(this.#root, rest)
    }
  }
}

/** `a.b` and `a` for `a.b.c`: the longest first, without the empty one. */
export function prefixesOf(name: string): string[] {
  const prefixes: string[] = []
  for (let end = name.lastIndexOf('.'); end > 0; end = name.lastIndexOf('.', end - 1)) prefixes.push(name.slice(0, end))
  return prefixes
}

function parentOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('.')))
}

function joined(parent: string, rest: string): string {
  return parent === '' ? rest : `${parent}.${rest}`
}
