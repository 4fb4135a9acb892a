// The license texts of packages, required in copies of their code.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/** @param files paths, of which those under node_modules count @returns empty if there are none */
export function licensesOf(files) {
  const folders = files.flatMap((path) => /^.*node_modules[\\/](@[^\\/]+[\\/])?[^\\/]+/.exec(path)?.[0] ?? [])
  const texts = [...new Set(folders)].map((folder) => {
    const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name))
    return `${basename(folder)}\n\n${readFileSync(join(folder, file), 'utf8').trim()}`
  })
  return texts.join('\n\n')
}
