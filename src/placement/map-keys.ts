/** What the keys of a device map refer to: one module, several, or something inside one. */

/** Prefixes under which releases and Hugging Face classes nest the text model; longer ones first. */
const WRAPPERS = ['model.language_model', 'language_model.model', 'language_model', 'model', 'transformer']

/**
 * Components that checkpoints contain besides the text model, and rotary embeddings, which have no weights and are
 * recomputed by every stage. Their placement is ignored.
 */
const NOT_PLACED =
  /(^|\.)(rotary_emb|mtp|draft|eagle|visual|vision\w*|audio\w*|multi_modal_projector|mm_projector|talker|code2wav)(\.|$)/

/**
 * A language-model, classification or scoring head. A map written for another model may name one that this model does
 * not have.
 */
const HEAD = /(^|\.)(lm_head|score|classifier|v_head|embed_out)(\.|$)/

/**
 * What a key refers to: all modules under `prefix` (every module for `''`), one `module` by name or by a part of it,
 * nothing, or experts of a `dense` layer, which has none.
 */
export type KeyMeaning =
  | { readonly prefix: string }
  | { readonly module: string; readonly isMlp: boolean }
  | { readonly dense: string }
  | 'not placed'

/** Resolves device-map keys for one model. */
export class MapKeys {
  readonly #modules: ReadonlySet<string>
  readonly #experts: ReadonlyMap<string, string>
  readonly #prefixes = new Set<string>([''])
  /** Parent of the decoder layers, embedding and norm: `model`. */
  readonly #root: string
  /** The experts of all layers, `model.layers.*.mlp.experts`, if there are any. */
  readonly allExperts: string | undefined

  /**
   * @param modules modules that are placed as a whole: embedding, each decoder layer, final norm, head
   * @param experts layer -> name of its experts, which are placed by themselves
   */
  constructor(modules: readonly string[], experts: ReadonlyMap<string, string>) {
    this.#modules = new Set(modules)
    this.#experts = experts
    for (const module of modules) for (const prefix of prefixesOf(module)) this.#prefixes.add(prefix)
    this.#root = parentOf(modules[0] ?? '')
    const [first] = experts
    this.allExperts = first && `${parentOf(first[0])}.*${first[1].slice(first[0].length)}`
  }

  /** Undefined if the model has no such module. Prefixes that releases add or drop are tolerated. */
  meaningOf(key: string): KeyMeaning | undefined {
    for (const name of this.#spellings(key)) {
      if (this.#prefixes.has(name) || name === this.allExperts) return { prefix: name }
      const module = [name, ...prefixesOf(name)].find((prefix) => this.#modules.has(prefix))
      if (module !== undefined) return this.#within(module, name.slice(module.length + 1))
    }
    return NOT_PLACED.test(key) || HEAD.test(key) ? 'not placed' : undefined
  }

  #within(module: string, rest: string): KeyMeaning {
    const isMlp = rest === 'mlp' && this.#experts.has(module)
    if (!/^mlp\.experts(\.|$)/.test(rest)) return { module, isMlp }
    const experts = this.#experts.get(module)
    return experts === undefined ? { dense: module } : { module: experts, isMlp: false }
  }

  *#spellings(key: string): Iterable<string> {
    yield key
    yield joined(this.#root, key)
    for (const wrapper of WRAPPERS) {
      // language_model includes the head; its `model` does not.
      if (key === wrapper) yield wrapper === 'language_model' ? '' : this.#root
      if (!key.startsWith(`${wrapper}.`)) continue
      const rest = key.slice(wrapper.length + 1)
      yield rest
      yield joined(this.#root, rest)
    }
  }
}

/** `a.b` and `a` for `a.b.c`: longest first, without the empty prefix. */
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
