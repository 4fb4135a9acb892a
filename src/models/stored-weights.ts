/**
 * Maps canonical weight names to stored ones. Architectures, device maps and plans use the names of the ForCausalLM
 * class (`model.layers.0.mlp.up_proj`). Releases may use other prefixes: saved from the base model (`layers.0...`), or
 * as the text model of a vision-language model (`model.language_model.layers.0...`,
 * `language_model.model.layers.0...`). This is the only place that translates between them.
 */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import { NON_TEXT_COMPONENT } from '../checkpoint/tensors'
import type { Checkpoint } from '../checkpoint/types'
import type { LinearSpec, MatrixSpec, TensorRef, VectorSpec } from '../native/weights'
import type { ModuleNames } from './architecture'
import type { StoredLayout, WeightSource } from './graph'

/** The weights of a checkpoint under canonical names. */
export class StoredWeights implements WeightSource {
  readonly layout: StoredLayout
  readonly #canonicalRoot: string
  /** Stored prefix in place of the canonical root: `model.language_model`, or empty. */
  readonly #root: string
  readonly #canonicalHead: string
  readonly #head: string

  readonly #checkpoint: Checkpoint

  /** @throws BillfishError INVALID_CHECKPOINT if two components could be the model */
  constructor(checkpoint: Checkpoint, canonical: ModuleNames) {
    this.#checkpoint = checkpoint

    const names = [...checkpoint.tensors.keys(), ...checkpoint.unsupportedTensors.keys()]
    this.#canonicalRoot = parentOf(canonical.embedding)
    this.#canonicalHead = canonical.head
    this.#root = findRoot(names, canonical, checkpoint.directory)
    const head = headNames(this.#root, canonical).find((name) => names.some((other) => other.startsWith(`${name}.`)))
    this.#head = head ?? canonical.head
    const layersName = this.storedName(canonical.layers)
    this.layout = {
      where: checkpoint.directory,
      ...scanLayers(names, `${layersName}.`),
      layersName,
      head: head !== undefined,
    }
  }

  get tensors(): ReadonlyMap<string, TensorRef> {
    return this.#checkpoint.tensors
  }

  /** The stored name of the module or tensor `name`. */
  storedName(name: string): string {
    const [canonicalHead, canonicalRoot] = [this.#canonicalHead, this.#canonicalRoot]
    if (isWithin(name, canonicalHead)) return this.#head + name.slice(canonicalHead.length)
    return isWithin(name, canonicalRoot) ? joined(this.#root, name.slice(canonicalRoot.length + 1)) : name
  }

  linear(module: string, outFeatures: number, inFeatures: number, bias: 'required' | 'none' | 'optional'): LinearSpec {
    return this.#checkpoint.linear(this.storedName(module), outFeatures, inFeatures, bias)
  }

  find(tensor: string): TensorRef | undefined {
    return this.tensors.get(this.storedName(tensor))
  }

  vector(tensor: string, shape: readonly number[]): VectorSpec {
    return this.#checkpoint.vector(this.storedName(tensor), shape)
  }

  table(tensor: string, rows: number, width: number): MatrixSpec {
    return this.#checkpoint.table(this.storedName(tensor), rows, width)
  }
}

/** Finds the stored prefix of the model; `''` if there is none. */
function findRoot(names: readonly string[], { embedding, layers }: ModuleNames, directory: string): string {
  const canonical = parentOf(embedding)
  const table = `${leafOf(embedding)}.weight`
  const layer = `${leafOf(layers)}.0.`
  const withLayers = new Set<string>()
  for (const name of names) {
    const at = name.startsWith(layer) ? 0 : name.indexOf(`.${layer}`) + 1
    if (at > 0 || name.startsWith(layer)) withLayers.add(name.slice(0, Math.max(0, at - 1)))
  }
  const roots = names
    .filter((name) => leafOf(parentOf(name)) === leafOf(embedding) && name.endsWith(table))
    .map((name) => parentOf(parentOf(name)))
    .filter((root) => withLayers.has(root) && !NON_TEXT_COMPONENT.test(`${root}.`))
  const [root = canonical, other] = roots
  if (other === undefined) return root
  throw invalidCheckpoint(
    `${directory}: ${quoted(joined(root, table))} and ${quoted(joined(other, table))} both have decoder layers next to them; ` +
      'cannot tell which of the two models to load',
  )
}

/** Possible names of the head: next to the text model or next to one of its parents. */
function headNames(root: string, { head }: ModuleNames): string[] {
  const names = [head]
  for (let parent = root; parent !== ''; parent = parentOf(parent)) names.push(`${parent}.${head}`)
  return root === '' ? [...names, `model.${head}`] : names
}

/** Counts layers up to the highest stored number, ignoring gaps, and collects their tensors. */
function scanLayers(names: readonly string[], prefix: string): Pick<StoredLayout, 'layers' | 'layerTensors'> {
  const layerTensors = new Map<string, string>()
  let layers = 0
  for (const name of names) {
    if (!name.startsWith(prefix)) continue
    const number = /^\d{1,9}(?=\.)/.exec(name.slice(prefix.length, prefix.length + 10))?.[0]
    if (number === undefined) continue
    layers = Math.max(layers, Number(number) + 1)
    const suffix = name.slice(prefix.length + number.length + 1)
    if (!layerTensors.has(suffix)) layerTensors.set(suffix, name)
  }
  return { layers, layerTensors }
}

function isWithin(name: string, module: string): boolean {
  return name === module || name.startsWith(`${module}.`)
}

function joined(parent: string, rest: string): string {
  return parent === '' ? rest : `${parent}.${rest}`
}

/** `''` for a name without dots. */
function parentOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('.')))
}

function leafOf(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}
