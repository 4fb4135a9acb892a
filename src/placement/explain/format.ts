/** Formatting of modules and sizes in explanations. */

/** Abbreviates consecutive modules: "model.layers.3 to 9", "the experts of model.layers.3 to 9". */
export function formatModules(modules: readonly string[]): string {
  const parts: string[] = []
  for (let i = 0; i < modules.length; i++) {
    const module = modules[i] as string
    const [, prefix, first, experts = ''] = /^(.*)\.(\d+)(\.mlp\.experts)?$/.exec(module) ?? []
    let last = Number(first)
    while (prefix !== undefined && modules[i + 1] === `${prefix}.${last + 1}${experts}`) {
      last++
      i++
    }
    const name = experts === '' ? module : `the experts of ${prefix}.${first}`
    parts.push(prefix !== undefined && last > Number(first) ? `${name} to ${last}` : name)
  }
  return parts.join(', ')
}

/** Bytes in GiB, or in MiB below 1 GiB. */
export function formatBinaryBytes(bytes: number): string {
  const [unit, name] = bytes >= 2 ** 30 ? [2 ** 30, 'GiB'] : [2 ** 20, 'MiB']
  return `${(bytes / unit).toFixed(2)} ${name}`
}

/** The exact number of bytes, with {@link formatBinaryBytes}. */
export function formatExactBytes(bytes: number): string {
  return `${bytes.toLocaleString('en-US')} bytes (${formatBinaryBytes(bytes)})`
}

/** "a", "a and b", "a, b and c". */
export function formatList(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`
}
