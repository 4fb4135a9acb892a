import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BillfishError } from '../../../src/common/errors'
import { type AddonFile, loadAddon, loadAddonFrom } from '../../../src/native/loader'

const builtAddon = join(__dirname, '../../..', 'build', 'Release', 'billfish.node')
const cpuPackage = `@billfish/${process.platform}-${process.arch}`
const cudaPackage = `${cpuPackage}-cuda`

function failure(root: string, override?: string): BillfishError {
  try {
    loadAddonFrom(root, override)
  } catch (error) {
    if (error instanceof BillfishError) return error
    throw error
  }
  throw new Error('the addon was loaded')
}

describe('loadAddon', () => {
  let root = ''
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'billfish-loader-'))
    writeFileSync(join(root, 'package.json'), '{"name": "billfish", "version": "1.2.3"}')
  })
  afterEach(() => rmSync(root, { recursive: true }))

  it('loads the addon once', () => {
    const { addon, file } = loadAddon() as { addon: { devices(): unknown }; file: AddonFile }
    expect(addon.devices).toBeTypeOf('function')
    expect(loadAddon().addon).toBe(addon)
    expect(file).toEqual({
      path: expect.stringMatching(/billfish\.node$/),
      source: 'build',
      package: null,
      passedOver: null,
    })
  })

  it('says where it looked and how to build when there is no addon', () => {
    const error = failure(root)
    expect(error.code).toBe('ADDON_NOT_FOUND')
    expect(error.message).toContain(`no native addon for ${process.platform}-${process.arch}`)
    expect(error.message).toContain(root)
    expect(error.message).toMatch(/1\. Build it from source[\s\S]*npx billfish-build[\s\S]*2\. /)
  })

  it('explains a damaged file', () => {
    const folder = join(root, 'build', 'Release')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'billfish.node'), 'not a shared object, and longer than its header: '.repeat(4))
    const error = failure(root)
    expect(error.code).toBe('ADDON_NOT_FOUND')
    expect(error.message).toContain(join(folder, 'billfish.node'))
    expect(error.message).toContain('1. The file is damaged or was built for another platform')
    expect(error.cause).toBeInstanceOf(Error)
  })

  /** A platform package in the project's node_modules, with the built addon in it or something else. */
  const install = (name: string, version: string, content?: string): string => {
    const folder = join(root, 'node_modules', name)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, version }))
    const path = join(folder, 'billfish.node')
    if (content === undefined) symlinkSync(builtAddon, path)
    else writeFileSync(path, content)
    return realpathSync(folder)
  }
  const damaged = 'not a shared object, and longer than its header: '.repeat(4)

  it('takes the CPU package, or the CUDA package if installed', () => {
    const cpu = install(cpuPackage, '1.2.3')
    const found = { source: 'package', passedOver: null }
    expect(loadAddonFrom(root).file).toEqual({ ...found, package: cpuPackage, path: join(cpu, 'billfish.node') })
    const cuda = install(cudaPackage, '1.2.3')
    expect(loadAddonFrom(root).file).toEqual({ ...found, package: cudaPackage, path: join(cuda, 'billfish.node') })
  })

  it.each([
    [
      'is of another version',
      '1.2.2',
      undefined,
      /is version 1\.2\.2, but billfish is 1\.2\.3.*npm install \S+-cuda@1\.2\.3/,
    ],
    ['cannot be loaded', '1.2.3', damaged, /cannot be loaded on[\s\S]*The file is damaged/],
  ])('skips a CUDA package that %s, and says so', async (_, version, content, reason) => {
    install(cpuPackage, '1.2.3')
    install(cudaPackage, version, content)
    const warning = new Promise<Error>((resolve) => process.once('warning', resolve))
    const { package: name, passedOver } = loadAddonFrom(root).file
    expect(name).toBe(cpuPackage)
    expect(passedOver).toMatch(`${cudaPackage} is installed but cannot be used; using ${cpuPackage} instead: `)
    expect(passedOver).toMatch(reason)
    expect(await warning).toMatchObject({ message: passedOver, code: 'BILLFISH_FALLBACK' })
  })

  it('has no fallback if the only package has another version or is damaged', () => {
    install(cpuPackage, '2.0.0')
    expect(failure(root)).toMatchObject({
      code: 'ADDON_NOT_FOUND',
      message: expect.stringContaining('is version 2.0.0'),
    })
    rmSync(join(root, 'node_modules'), { recursive: true })
    install(cudaPackage, '1.2.3', damaged)
    expect(failure(root).message).toContain('The file is damaged')
  })

  it('prefers a local build to packages, and BILLFISH_ADDON to both', () => {
    install(cpuPackage, '1.2.3')
    const build = join(root, 'build', 'Release')
    mkdirSync(build, { recursive: true })
    symlinkSync(builtAddon, join(build, 'billfish.node'))
    expect(loadAddonFrom(root).file).toMatchObject({ source: 'build', path: join(build, 'billfish.node') })
    expect(loadAddonFrom(root, builtAddon).file).toMatchObject({ source: 'environment', path: builtAddon })
    const error = failure(root, join(root, 'missing.node'))
    expect(error.code).toBe('ADDON_NOT_FOUND')
    expect(error.message).toContain(join(root, 'missing.node'))
    expect(error.message).toContain('1. Correct or unset the environment variable BILLFISH_ADDON.')
  })

  it('survives workers that load it first and end, in a process whose main thread never loads it', () => {
    const worker = `
      const { parentPort } = require('node:worker_threads')
      parentPort.postMessage(require(${JSON.stringify(builtAddon)}).devices().cpu.cores)`
    const main = `
      const { Worker } = require('node:worker_threads')
      const once = () => new Promise((resolve, reject) => {
        let cores = 0
        new Worker(${JSON.stringify(worker)}, { eval: true })
          .on('message', (value) => { cores = value }).on('error', reject).on('exit', () => resolve(cores))
      })
      once().then(once).then(once).then((cores) => console.log(cores > 0))`
    const { status, signal, stdout } = spawnSync(process.execPath, ['-e', main], { encoding: 'utf8' })
    expect({ status, signal, stdout }).toEqual({ status: 0, signal: null, stdout: 'true\n' })
  })
})
