import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { BillfishError } from '../common/errors'

/** Directory of package.json and build/: two levels above src/native and dist/native. */
const packageRoot = resolve(__dirname, '..', '..')

/** File the native addon was loaded from. */
export interface AddonFile {
  readonly path: string
  /**
   * `'environment'`: the file in BILLFISH_ADDON; `'build'`: the build directory of billfish; `'package'`: a platform
   * package such as `@billfish/linux-x64`.
   */
  readonly source: 'environment' | 'build' | 'package'
  /** Name of the platform package; null for other sources. */
  readonly package: string | null
  /** The preferred platform package and why it cannot be used; null if nothing is wrong. */
  readonly passedOver: string | null
}

export interface LoadedAddon {
  readonly addon: unknown
  readonly file: AddonFile
}

let loaded: LoadedAddon | undefined

/**
 * Loads the native addon: the file in BILLFISH_ADDON, else a local build (build/Release), else the CUDA platform
 * package if it is installed, else the CPU one. A CUDA package that cannot be used is skipped with a process warning.
 * The addon is loaded once per thread, so further calls are cheap.
 *
 * @throws {BillfishError} `ADDON_NOT_FOUND` if there is no addon for this platform or it cannot be loaded; the message
 *   says where it was searched, what failed and how to fix it.
 */
export function loadAddon(): LoadedAddon {
  loaded ??= loadAddonFrom(packageRoot, process.env.BILLFISH_ADDON)
  return loaded
}

/** {@link loadAddon} with another package directory; for tests. */
export function loadAddonFrom(root: string, override?: string): LoadedAddon {
  if (override) return loadFile(resolve(override), 'environment')
  const build = join(root, 'build', 'Release', 'billfish.node')
  return existsSync(build) ? loadFile(build, 'build') : loadPackage(root)
}

function loadFile(path: string, source: 'environment' | 'build'): LoadedAddon {
  try {
    return { addon: require(path), file: { path, source, package: null, passedOver: null } }
  } catch (cause) {
    const named = source === 'environment' ? ['Correct or unset the environment variable BILLFISH_ADDON.'] : []
    throw new BillfishError('ADDON_NOT_FOUND', notLoadedText(path, cause, named), { cause })
  }
}

const cpuPackage = `@billfish/${process.platform}-${process.arch}`
const cudaPackage = `${cpuPackage}-cuda`

interface PlatformPackage {
  readonly name: string
  readonly version: string
  /** Path of the addon. */
  readonly path: string
}

/** Loads the best platform package that is installed and works. */
function loadPackage(root: string): LoadedAddon {
  const [first, second] = [cudaPackage, cpuPackage].flatMap((name) => findPackage(root, name))
  if (first === undefined) throw new BillfishError('ADDON_NOT_FOUND', notFoundText(root))
  if (second === undefined) return loadPlatformPackage(root, first, null)
  try {
    return loadPlatformPackage(root, first, null)
  } catch (error) {
    const passedOver = `${first.name} is installed but cannot be used; using ${second.name} instead: ${(error as Error).message}`
    const result = loadPlatformPackage(root, second, passedOver)
    process.emitWarning(passedOver, { type: 'BillfishWarning', code: 'BILLFISH_FALLBACK' })
    return result
  }
}

/** One package, or none if it is not installed. */
function findPackage(root: string, name: string): PlatformPackage[] {
  try {
    const manifest = createRequire(join(root, 'package.json')).resolve(`${name}/package.json`)
    return [{ name, version: versionIn(manifest), path: resolve(manifest, '..', 'billfish.node') }]
  } catch {
    return []
  }
}

function loadPlatformPackage(root: string, { name, version, path }: PlatformPackage, passedOver: string | null) {
  const own = versionIn(join(root, 'package.json'))
  if (version !== own) {
    // The addon and the JavaScript code must be from the same release.
    const message = `${name} is version ${version}, but billfish is ${own}. Install the matching version: npm install ${name}@${own}`
    throw new BillfishError('ADDON_NOT_FOUND', message)
  }
  try {
    return { addon: require(path), file: { path, source: 'package', package: name, passedOver } } satisfies LoadedAddon
  } catch (cause) {
    throw new BillfishError('ADDON_NOT_FOUND', notLoadedText(path, cause), { cause })
  }
}

function versionIn(manifest: string): string {
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version
}

const rebuild = [
  'Build it from source (this needs CMake 3.22 or later and a C++20 compiler).',
  '     In a clone of billfish: npm run build',
  '     Where billfish is a dependency: npx billfish-build',
].join('\n')

function notFoundText(root: string): string {
  return withSolutions(
    [
      `billfish has no native addon for ${platformName()}.`,
      `Looked for build/Release/billfish.node in ${root} and for the packages ${cudaPackage} and ${cpuPackage}`,
    ],
    [
      rebuild,
      'Install again, on this platform, without --omit=optional or a changed --cpu, --os or --libc: on Linux x64 with glibc ' +
        'the addon is an optional dependency.',
      "If a bundler put billfish's code into its own file, mark it external: the addon is found from billfish's package.json.",
    ],
  )
}

function notLoadedText(path: string, cause: unknown, solutions: readonly string[] = []): string {
  const message = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return withSolutions(
    [`billfish's native addon ${path} cannot be loaded on ${platformName()}:`, message],
    [...solutions, ...hints(message, code), rebuild],
  )
}

/** Explains errors of the dynamic linker and of Node.js. */
function hints(message: string, code: unknown): string[] {
  if (code === 'ERR_DLOPEN_DISABLED') {
    return ['Start Node.js without --no-addons, and with --allow-addons under the permission model.']
  }
  const library = message.match(/version [`'](GLIBC(?:XX)?)_([\d.]+)' not found/)
  if (library) {
    const name = library[1] === 'GLIBC' ? 'glibc' : 'libstdc++ (GLIBCXX)'
    return [`The addon was built for ${name} ${library[2]} or later; use a newer Linux distribution or image.`]
  }
  if (/invalid ELF header|wrong ELF class|file too short|mach-o|incompatible architecture/i.test(message)) {
    return [`The file is damaged or was built for another platform than ${process.platform}-${process.arch}.`]
  }
  if (/musl/.test(message)) return ['Prebuilt binaries are for glibc; on Alpine Linux build from source.']
  if (/undefined symbol|did not self-register/.test(message)) {
    return ['The file is left over from another version of billfish: remove the build folder.']
  }
  return []
}

/** For example "linux-x64 (glibc 2.36, Node.js 22.11.0)". */
function platformName(): string {
  const report = process.report as typeof process.report & { excludeNetwork?: boolean }
  report.excludeNetwork = true // host name look-ups can take seconds; ignored by Node.js 20.12 and older
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const libc = header.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}, ` : ''
  return `${process.platform}-${process.arch} (${libc}Node.js ${process.versions.node})`
}

function withSolutions(problem: readonly string[], solutions: readonly string[]): string {
  return [...problem, 'Possible solutions:', ...solutions.map((text, i) => `  ${i + 1}. ${text}`)].join('\n')
}
