import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BillfishError } from '../../src/errors'
import { loadAddon, loadAddonFrom } from '../../src/native/loader'

function failure(root: string): BillfishError {
  try {
    loadAddonFrom(root)
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
    writeFileSync(join(root, 'package.json'), '{"name": "elsewhere"}')
  })
  afterEach(() => rmSync(root, { recursive: true }))

  it('loads the addon once', () => {
    const addon = loadAddon<{ devices(): unknown }>()
    expect(addon.devices).toBeTypeOf('function')
    expect(loadAddon()).toBe(addon)
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

  it('survives workers that load it first and end, in a process whose main thread never loads it', () => {
    const worker = `
      const { parentPort } = require('node:worker_threads')
      parentPort.postMessage(require('node-gyp-build')(process.cwd()).devices().cpu.cores)`
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
