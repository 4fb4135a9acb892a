import { BillfishError } from '../../common/errors'

/**
 * A module and the bytes of its weights. Leaf modules are placed individually; a module whose children are all placed
 * is placed too.
 */
export interface ModuleNode {
  /** Full name; `''` for the root, the whole model. */
  readonly name: string
  readonly size: number
  /** Whether it is a layer that must not be split; it then has no children. */
  readonly indivisible: boolean
  /** Modules it may be split into, in model order. */
  readonly children: readonly ModuleNode[]
  /** Bytes of the largest unsplittable module in it, itself included. */
  readonly largestPart: number
}

/**
 * Builds the tree of the modules in `sizes`. An unlisted parent (`model.layers` if only `model.layers.0` is listed) has
 * the size of its listed children.
 * @param sizes module -> bytes; `''` is the whole model
 * @param wholeLayers whether numbered modules, the repeated layers of a model, must not be split
 * @throws BillfishError INVALID_OPTION for an empty list, and for modules whose parts do not add up
 */
export function moduleTree(sizes: Readonly<Record<string, number>>, wholeLayers: boolean): ModuleNode {
  const childNames = childrenByParent(sizes)
  if (!childNames.has('')) {
    throw new BillfishError(
      'INVALID_OPTION',
      `modules is empty; give the bytes of each module, for example { 'model.embed_tokens': 1000, 'model.layers.0': 500 }.`,
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

/** Whether a module belongs to a numbered list, such as the decoder layers `model.layers.0`, `model.layers.1`, ... */
function isNumbered(name: string): boolean {
  return /(^|\.)\d+$/.test(name)
}

/** Whether the module or parameter `name` is `module` or inside it. */
export function contains(module: string, name: string): boolean {
  return module === '' || name === module || name.startsWith(`${module}.`)
}

/** The direct children of each module, in order of first appearance in `sizes`. */
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
 * Checks that parts add up: bytes of a split module that no part holds would be on no device. Sizes may be sums of
 * fractional bytes, so they may differ by less than one.
 * @param whole the module is never split, so its parts may be listed incompletely
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
