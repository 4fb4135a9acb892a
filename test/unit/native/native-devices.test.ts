import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadAddon } from '../../../src/native/loader'

interface Addon {
  devices(): {
    devices: { device: string; computeCapability: string; totalBytes: number; freeBytes: number; pciBusId: string }[]
    cuda: {
      compiled: boolean
      available: boolean
      reason: string | null
      runtimeVersion: string | null
      cublas: { library: string | null; version: string | null; reason: string | null }
      nccl: { library: string | null; version: string | null; reason: string | null }
    }
    cpu: { cores: number; instructionSet: string }
  }
  discoverDevices(): Promise<unknown>
  testCudaDevice(index: number): void
}

const addon = loadAddon().addon as Addon
const report = addon.devices()

function codeOf(action: () => void): unknown {
  try {
    action()
  } catch (error) {
    return (error as { code?: unknown }).code
  }
  return undefined
}

describe('devices of the addon', () => {
  it('gives the same list without blocking the event loop', async () => {
    const found = addon.discoverDevices()
    expect(found).toBeInstanceOf(Promise)
    expect(await found).toEqual(report)
  })

  it('refuses an unknown instruction set, and the process goes on', () => {
    const program = `
      const { BillfishError, devices, discoverDevices } = require(${JSON.stringify(resolve(__dirname, '../../../dist/index.js'))})
      const tell = (error) => console.log(error instanceof BillfishError, error.code, error.message)
      try { devices() } catch (error) { tell(error) }
      discoverDevices().catch(tell)`
    const env = { ...process.env, BILLFISH_CPU_ISA: 'avx3' }
    const { stdout, status } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', env })
    const refusal = /^true INVALID_OPTION BILLFISH_CPU_ISA is 'avx3'; it may be scalar, avx2, avx512 or avx512_bf16/
    expect(stdout.trim().split('\n')).toEqual([expect.stringMatching(refusal), expect.stringMatching(refusal)])
    expect(status).toBe(0)
  })

  it('describes the processor', () => {
    expect(report.cpu.cores).toBeGreaterThanOrEqual(1)
    expect(['scalar', 'avx2', 'avx512', 'avx512_bf16']).toContain(report.cpu.instructionSet)
  })

  it('names a reason exactly when there is no CUDA device', () => {
    expect(report.devices.length > 0).toBe(report.cuda.available)
    expect(report.cuda.reason === null).toBe(report.cuda.available)
    expect(report.cuda.runtimeVersion !== null).toBe(report.cuda.compiled)
    if (!report.cuda.available) expect(report.cuda.reason).toMatch(/Install|Update|Check/)
  })

  it.each(['cublas', 'nccl'] as const)('names a library of %s or why there is none', (which) => {
    const { library, version, reason } = report.cuda[which]
    expect([library === null, version === null]).toEqual([reason !== null, reason !== null])
    if (!report.cuda.available) expect(reason).toBe('there is no CUDA device to use it.')
  })

  it('refuses a device that does not exist', () => {
    expect(codeOf(() => addon.testCudaDevice(report.devices.length))).toBe('DEVICE_NOT_FOUND')
    expect(codeOf(() => addon.testCudaDevice(-1))).toBe('INVALID_OPTION')
    expect(codeOf(() => addon.testCudaDevice('0' as unknown as number))).toBe('INVALID_OPTION')
  })

  it('runs a kernel on every device', ({ skip }) => {
    if (!report.cuda.available) skip(`no CUDA device: ${report.cuda.reason}`)
    for (const [index, device] of report.devices.entries()) {
      expect(device.device).toBe(`cuda:${index}`)
      expect(device.computeCapability).toMatch(/^\d+\.\d$/)
      expect(device.freeBytes).toBeLessThanOrEqual(device.totalBytes)
      expect(() => addon.testCudaDevice(index)).not.toThrow()
    }
  })
})
