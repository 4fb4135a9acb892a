// Builds, assembles and packs billfish and its platform packages, each as a folder and a tarball in build/packages.
//
//   node scripts/packages.mjs            everything, with CUDA for all supported GPUs (needs nvcc 12.8)
//   node scripts/packages.mjs cpu        without @billfish/linux-x64-cuda
//
// billfish itself contains no binary. npm selects the CPU package by platform, as an optional dependency. It cannot select
// by GPU, so the CUDA package is an optional peer dependency of the same version. Both references are added here, because
// no registry has them before their version is released.
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildNative } from './build-native.mjs'
import { buildTypeScript } from './build-ts.mjs'
import { root, run } from './steps.mjs'

const assembled = join(root, 'build', 'packages')
const platform = 'linux-x64'
/** Maximum size of a package's addon in bytes, which every install downloads with or without a GPU. */
const largestAddon = { cpu: 6e6, cuda: 60e6 }

const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'))
const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`)
const { version } = readJson(join(root, 'package.json'))

/** The report of `npm pack` on a package folder; with `--dry-run` it writes nothing. */
export function npmPack(folder, ...options) {
  const text = execFileSync('npm', ['pack', '--json', ...options], { cwd: folder, encoding: 'utf8' })
  const parsed = JSON.parse(text.slice(text.search(/^[[{]/m)))
  return Array.isArray(parsed) ? parsed[0] : Object.values(parsed)[0]
}

function pack(folder) {
  const { filename, size, unpackedSize, files } = npmPack(folder, '--pack-destination', assembled)
  return { folder, tarball: join(assembled, filename), size, unpackedSize, files: files.map(({ path }) => path) }
}

/** One platform package; `variant` is cpu or cuda. */
function assemblePlatform(variant) {
  const name = variant === 'cpu' ? platform : `${platform}-${variant}`
  const folder = join(assembled, name)
  cpSync(join(root, 'packages', name), folder, { recursive: true })
  writeJson(join(folder, 'package.json'), { ...readJson(join(folder, 'package.json')), version })
  copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  const addon = join(folder, 'billfish.node')
  copyFileSync(join(root, 'build', 'published', variant, 'billfish.node'), addon)
  run('strip', [addon])
  const { size } = statSync(addon)
  if (size > largestAddon[variant]) {
    console.error(
      `billfish: the addon of @billfish/${name} has ${(size / 1e6).toFixed(1)} MB, more than ${largestAddon[variant] / 1e6}`,
    )
    process.exit(1)
  }
  return { ...pack(folder), addonBytes: size }
}

/** The billfish package: what `npm pack` takes from the clone, plus references to the platform packages. */
function assembleMain() {
  const folder = join(assembled, 'billfish')
  for (const { path } of npmPack(root, '--dry-run').files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    copyFileSync(join(root, path), join(folder, path))
  }
  const { scripts: _, ...manifest } = readJson(join(root, 'package.json'))
  writeJson(join(folder, 'package.json'), {
    ...manifest,
    optionalDependencies: { [`@billfish/${platform}`]: version },
    peerDependencies: { [`@billfish/${platform}-cuda`]: version },
    peerDependenciesMeta: { [`@billfish/${platform}-cuda`]: { optional: true } },
  })
  return pack(folder)
}

/**
 * Builds and packs the packages.
 * @param {{ cuda: boolean }} options whether to build the CUDA package
 * @returns the packages `main`, `cpu` and possibly `cuda`, each with its folder, tarball, files and sizes in bytes
 */
export async function assemblePackages({ cuda }) {
  await buildTypeScript()
  buildNative()
  const variants = cuda ? ['cpu', 'cuda'] : ['cpu']
  const targets = variants.map((variant) => `published_${variant}`)
  run('cmake', ['--build', 'build', '--parallel', String(availableParallelism()), '--target', ...targets])
  rmSync(assembled, { recursive: true, force: true })
  mkdirSync(assembled, { recursive: true })
  const packed = Object.fromEntries(variants.map((variant) => [variant, assemblePlatform(variant)]))
  return { main: assembleMain(), ...packed }
}

async function main() {
  const cuda = !process.argv.includes('cpu')
  if (cuda) {
    process.env.BILLFISH_CUDA = 'on'
    process.env.BILLFISH_CUDA_ARCHITECTURES ||= 'release'
  }
  const packed = await assemblePackages({ cuda })
  for (const { tarball, size, unpackedSize } of Object.values(packed)) {
    console.log(`${(size / 1e6).toFixed(1)} MB packed, ${(unpackedSize / 1e6).toFixed(1)} MB unpacked: ${tarball}`)
  }
  console.log('Publish the platform packages first, billfish last: npm publish TARBALL')
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main()
