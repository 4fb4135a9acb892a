// Builds, assembles and packs what is published: billfish and its platform packages, each as a folder and a tarball in
// build/packages.
//
//   node scripts/packages.mjs            all of it, with CUDA for all GPUs that are supported (needs nvcc 12.8)
//   node scripts/packages.mjs cpu        without @billfish/linux-x64-cuda
//
// billfish itself holds no binary. npm chooses the package for the CPU by platform, as an optional dependency. It cannot
// choose by GPU, so the CUDA package is an optional peer: installed by those who want it, in billfish's own version. Both
// references are added here, because no registry has them while their version is being worked on.
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
/** Bytes that a package's addon may have: what people pay for at every install, whether or not they have a GPU. */
const largestAddon = { cpu: 6e6, cuda: 60e6 }

const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'))
const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`)
const { version } = readJson(join(root, 'package.json'))

/** What `npm pack` says of the package in a folder; with `--dry-run` it writes nothing. */
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

/** The package billfish: what `npm pack` takes of the clone, with references to the platform packages. */
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
 * @param {{ cuda: boolean }} options whether the CUDA package is among them
 * @returns what was packed: `main`, `cpu` and, if wanted, `cuda`, each with its folder, tarball, files and sizes in bytes
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
