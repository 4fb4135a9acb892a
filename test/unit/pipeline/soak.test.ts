import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const root = resolve(__dirname, '../../..')
const soak = (...options: string[]) =>
  promisify(execFile)(process.execPath, [join(root, 'test/gpu/soak.cjs'), ...options])

describe.skipIf(!existsSync(join(root, 'dist', 'index.js')))('the soak test for GPUs (test/gpu/soak.cjs)', () => {
  it('passes on the CPU', async () => {
    const { stdout } = await soak('--devices', 'cpu', '--steps', '300')
    expect(stdout).toMatch(/^ok +soak of 300 steps on cpu: \{"answers":\d+,"aborts":\d+,.*\n1 passed, 0 failed\n$/)
  })

  it('passes on an emulated device, shortened', async () => {
    const small = join(root, 'test/fixtures/models/qwen2-bf16')
    const { stdout } = await soak('--devices', 'emulated:0', '--steps', '8', '--model', small)
    expect(stdout).toMatch(/^ok +soak of 8 steps on emulated:0: /)
  })

  it('fails if a device does not exist', async () => {
    const failure = soak('--devices', 'cuda:99', '--steps', '1')
    await expect(failure).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^FAILED .*no device cuda:99/),
    })
  })
})
