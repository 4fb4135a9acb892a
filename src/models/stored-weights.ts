/**
 * Maps canonical weight names to stored ones. Architectures, device maps and plans use the names of the ForCausalLM
 * class (`model.layers.0.mlp.up_proj`). Releases may use other prefixes: saved from the base model (`layers.0...`), or
 * as the text model of a vision-language model (`model.language_model.layers.0...`,
 * `language_model.model.layers.0...`). This is the only place that translates between them.
 */
import { invalidCheckpoint, quoted } from '../checkpoint/invalid'
import { NON_TEXT_COMPONENT } from '../checkpoint/tensors'
import type { Checkpoint } from '../checkpoint/types'
import { type CooperativeTask, YieldTimer } from '../common/event-loop'
import type { LinearSpec, MatrixSpec, TensorRef, VectorSpec } from '../native/weights'
import type { ModuleNames } from './architecture'
import type { StoredLayout, WeightSource } from './graph'

/** The weights of a checkpoint under canonical names. */
export class StoredWeights implements WeightSource {
  readonly layout: StoredLayout
  readonly #canonical: ModuleNames
  /** Stored prefix in place of the canonical root: `model.language_model`, or empty. */
  readonly #root: string
  readonly #head: string

  readonly #checkpoint: Checkpoint

  /** @throws BillfishError INVALID_CHECKPOINT if two components could be the model */
  static *of(checkpoint: Checkpoint, canonical: ModuleNames): CooperativeTask<StoredWeights> {
    const root = yield* findRoot(namesOf(checkpoint), canonical, checkpoint.directory)
    const head = yield* findHead(namesOf(checkpoint), root, canonical)
    const layersName = storedName(canonical.layers, canonical, root, canonical.head)
    const layers = yield* scanLayers(namesOf(checkpoint), `${layersName}.`)
    const layout = { where: checkpoint.directory, ...layers, layersName, head: head !== undefined }
    return new StoredWeights(checkpoint, canonical, root, head ?? canonical.head, layout)
  }

  private constructor(
    checkpoint: Checkpoint,
    canonical: ModuleNames,
    root: string,
    head: string,
    layout: StoredLayout,
  ) {
    this.#checkpoint = checkpoint
    this.#canonical = canonical
    this.#root = root
    this.#head = head
    this.layout = layout
  }

  get tensors(): ReadonlyMap<string, TensorRef> {
    return this.#checkpoint.tensors
  }

  /** The stored name of the module or tensor `name`. */
  storedName(name: string): string {
    return storedName(name, this.#canonical, this.#root, this.#head)
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

function* namesOf({ tensors, unsupportedTensors }: Checkpoint): Iterable<string> {
  yield* tensors.keys()
  yield* unsupportedTensors.keys()
}

/** Calls `look` for each name. A large mixture of experts has 150,000 of them. */
function* eachName(names: Iterable<string>, look: (name: string) => void): CooperativeTask<void> {
  const timer = new YieldTimer()
  for (const name of names) {
    look(name)
    if (timer.isDue()) yield
  }
}

function storedName(name: string, canonical: ModuleNames, root: string, head: string): string {
  const canonicalRoot = parentOf(canonical.embedding)
  if (isWithin(name, canonical.head)) return head + name.slice(canonical.head.length)
  return isWithin(name, canonicalRoot) ? joined(root, name.slice(canonicalRoot.length + 1)) : name
}

/** Finds the stored prefix of the model; `''` if there is none. */
function* findRoot(
  names: Iterable<string>,
  { embedding, layers }: ModuleNames,
  directory: string,
): CooperativeTask<string> {
  const canonical = parentOf(embedding)
  const table = `${leafOf(embedding)}.weight`
  const layer = `${leafOf(layers)}.0.`
  const withLayers = new Set<string>()
  const withTable: string[] = []
  yield* eachName(names, (name) => {
    const at = name.startsWith(layer) ? 0 : name.indexOf(`.${layer}`) + 1
    if (at > 0 || name.startsWith(layer)) withLayers.add(name.slice(0, Math.max(0, at - 1)))
    if (!name.endsWith(table) || leafOf(parentOf(name)) !== leafOf(embedding)) return
    withTable.push(parentOf(parentOf(name)))
  })
  const roots = withTable.filter((root) => withLayers.has(root) && !NON_TEXT_COMPONENT.test(`${root}.`))
  const [root = canonical, other] = roots
  if (other === undefined) return root
  throw invalidCheckpoint(
    `${directory}: ${quoted(joined(root, table))} and ${quoted(joined(other, table))} both have decoder layers next to them; ` +
      'cannot tell which of the two models to load',
  )
}

/** The stored name of the head, if there is one. */
function* findHead(names: Iterable<string>, root: string, canonical: ModuleNames): CooperativeTask<string | undefined> {
  const heads = headNames(root, canonical)
  const found = new Set<string>()
  yield* eachName(names, (name) => {
    for (const head of heads) if (name.startsWith(head) && name[head.length] === '.') found.add(head)
  })
  return heads.find((head) => found.has(head))
}

/** Possible names of the head: next to the text model or next to one of its parents. */
function headNames(root: string, { head }: ModuleNames): string[] {
  const names = [head]
  for (let parent = root; parent !== ''; parent = parentOf(parent)) names.push(`${parent}.${head}`)
  return root === '' ? [...names, `model.${head}`] : names
}

/** Counts layers up to the highest stored number, ignoring gaps, and collects their tensors. */
function* scanLayers(
  names: Iterable<string>,
  prefix: string,
): CooperativeTask<Pick<StoredLayout, 'layers' | 'layerTensors'>> {
  const layerTensors = new Map<string, string>()
  let layers = 0
  yield* eachName(names, (name) => {
    if (!name.startsWith(prefix)) return
    const number = /^\d{1,9}(?=\.)/.exec(name.slice(prefix.length, prefix.length + 10))?.[0]
    if (number === undefined) return
    layers = Math.max(layers, Number(number) + 1)
    const suffix = name.slice(prefix.length + number.length + 1)
    if (!layerTensors.has(suffix)) layerTensors.set(suffix, name)
  })
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
