import { BillfishError } from '../../errors'

/** A module with its weights' bytes. What is placed is a module without children, or with all of its children. */
export interface ModuleNode {
  /** The full name; the root's, which is the whole model, is `''`. */
  readonly name: string
  readonly size: number
  /** Whether it is a layer that has to stay whole; it has no children then, whatever is in it. */
  readonly indivisible: boolean
  /** The modules it may be split into, in the model's order. */
  readonly children: readonly ModuleNode[]
  /** Bytes of the largest module within, itself included, that cannot be split. */
  readonly largestPart: number
}

/**
 * The tree of the modules that `sizes` lists. Modules in between that are not listed (`model.layers` where only
 * `model.layers.0` is) are as large as what is in them.
 * @param sizes module -> bytes; `''` is the whole model
 * @param wholeLayers whether numbered modules, which are a model's repeated layers, are never split
 * @throws BillfishError INVALID_OPTION where there is no module, and for modules whose parts do not add up to them
 */
export function moduleTree(sizes: Readonly<Record<string, number>>, wholeLayers: boolean): ModuleNode {
  const childNames = childrenByParent(sizes)
  if (!childNames.has('')) {
    throw new BillfishError(
      'INVALID_OPTION',
      `modules names no module; give the bytes of each, for example { 'model.embed_tokens': 1000, 'model.layers.0': 500 }.`,
    )
  }

  const node = (name: string): ModuleNode => {
    const parts = (childNames.get(name) ?? []).map(node)
    const size = sizes[name] ?? sum(parts)
    const whole = wholeLayers && isNumbered(name)
    if (parts.length > 0) checkParts(name, size, parts, whole)
    const children = whole ? [] : parts
    const largestPart = children.length === 0 ? size : Math.max(...children.map((child) => child.largestPart))
    return { name, size, indivisible: whole, children, largestPart }
  }
  return node('')
}

/** Whether a module is one of a numbered list, as the decoder layers `model.layers.0`, `model.layers.1`, ... are. */
function isNumbered(name: string): boolean {
  return /(^|\.)\d+$/.test(name)
}

/** Whether the module or parameter `name` lies in `module`, or is it. */
export function contains(module: string, name: string): boolean {
  return module === '' || name === module || name.startsWith(`${module}.`)
}

/** The names of each module's direct children, in the order in which `sizes` first speaks of them. */
function childrenByParent(sizes: Readonly<Record<string, number>>): Map<string, string[]> {
  const children = new Map<string, string[]>()
  const known = new Set<string>([''])
  for (const name of Object.keys(sizes)) {
    for (let end = name.indexOf('.'); ; end = name.indexOf('.', end + 1)) {
      const path = end < 0 ? name : name.slice(0, end)
      if (!known.has(path)) {
        known.add(path)
        const parent = path.includes('.') ? path.slice(0, path.lastIndexOf('.')) : ''
        const siblings = children.get(parent)
        if (siblings) siblings.push(path)
        else children.set(parent, [path])
      }
      if (end < 0) break
    }
  }
  return children
}

/**
 * Bytes of a module that none of its parts holds would be on no device once the module is split. Sizes may be sums of
 * fractions of a byte, so they are compared to within one.
 * @param whole the module is never split, so that only some of its parts may be listed
 */
function checkParts(name: string, size: number, parts: readonly ModuleNode[], whole: boolean): void {
  for (const part of parts) {
    if (part.size >= size + 1) {
      throw new BillfishError(
        'INVALID_OPTION',
        `modules contradict each other: ${part.name} has ${part.size} bytes, but ${describe(name)}, which it is part of, ` +
          `has ${size}. Correct one of them, or leave out ${describe(name)} to have it added up.`,
      )
    }
  }
  const total = sum(parts)
  if (total >= size + 1 || (!whole && total <= size - 1)) {
    throw new BillfishError(
      'INVALID_OPTION',
      `modules contradict each other: the listed parts of ${describe(name)} (${parts.length}) have ${total} bytes ` +
        `together, but ${describe(name)} has ${size}. List all of them, or leave out ${describe(name)} to have it added up.`,
    )
  }
}

function sum(parts: readonly ModuleNode[]): number {
  return parts.reduce((total, { size }) => total + size, 0)
}

function describe(name: string): string {
  return name === '' ? `the whole model ('')` : name
}
