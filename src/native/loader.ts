import { resolve } from 'node:path'
import nodeGypBuild from 'node-gyp-build'
import { BillfishError } from '../errors'

/** The folder that holds package.json, build/ and prebuilds/; two levels up from src/native and from dist/native alike. */
const packageRoot = resolve(__dirname, '..', '..')

/**
 * Loads the native addon of this package: a local build (build/Release) if there is one, else the prebuilt binary of
 * this platform. Node keeps one instance per thread, so further calls, also from a `worker_threads` worker, are cheap.
 *
 * @throws {BillfishError} `ADDON_NOT_FOUND` when there is no addon for this platform or it cannot be loaded; the message
 *   says what was looked for, what went wrong, and what to do about it.
 */
export function loadAddon<Addon = unknown>(): Addon {
  return loadAddonFrom(packageRoot) as Addon
}

/** {@link loadAddon} with another package folder; for tests. */
export function loadAddonFrom(root: string): unknown {
  let path: string
  try {
    path = nodeGypBuild.resolve(root)
  } catch (cause) {
    throw new BillfishError('ADDON_NOT_FOUND', notFoundText(root), { cause })
  }
  try {
    return nodeGypBuild(root)
  } catch (cause) {
    throw new BillfishError('ADDON_NOT_FOUND', notLoadedText(path, cause), { cause })
  }
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
      `Looked for build/Release/*.node and prebuilds/${process.platform}-${process.arch}/*.node in ${root}`,
    ],
    [
      rebuild,
      'Install again without --omit or a changed --cpu, --os: the package must have been installed on this platform, not copied from another.',
      "If a bundler put billfish's code into its own file, mark it external: the addon must stay beside its package.json.",
    ],
  )
}

function notLoadedText(path: string, cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return withSolutions(
    [`billfish's native addon ${path} cannot be loaded on ${platformName()}:`, message],
    [...hints(message, code), rebuild],
  )
}

/** What the dynamic linker's and Node's own messages mean. */
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
  report.excludeNetwork = true // a host name look-up can take seconds; Node.js 20.12 and older do not know this switch
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const libc = header.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}, ` : ''
  return `${process.platform}-${process.arch} (${libc}Node.js ${process.versions.node})`
}

function withSolutions(problem: readonly string[], solutions: readonly string[]): string {
  return [...problem, 'Possible solutions:', ...solutions.map((text, i) => `  ${i + 1}. ${text}`)].join('\n')
}
