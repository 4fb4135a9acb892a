import { execFileSync } from 'node:child_process'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { denseModels, difference, golden } from '../support/fixtures'

interface Outcome {
  readonly instructionSet: string
  readonly models: { name: string; dtype: 'float32' | 'auto'; tokenIds: number[]; logits: string }[]
}

// The other goldens run with the best instruction set of the machine; these are what it would do without.
describe.each(['scalar', 'avx2'])('with the %s kernels', (wanted) => {
  test('every golden holds', () => {
    const script = resolve(__dirname, '../support/run-goldens.cjs')
    const env = { ...process.env, BILLFISH_CPU_ISA: wanted }
    const outcome: Outcome = JSON.parse(
      execFileSync(process.execPath, [script, ...denseModels], { env, encoding: 'utf8', maxBuffer: 1 << 26 }),
    )
    const lesser = ['scalar', 'avx2', 'avx512'].slice(0, ['scalar', 'avx2'].indexOf(wanted) + 1)
    expect(lesser).toContain(outcome.instructionSet) // a machine without AVX2 runs the scalar ones
    expect(outcome.models).toHaveLength(denseModels.length * 2)
    for (const { name, dtype, tokenIds, logits } of outcome.models) {
      const expected = golden(name)
      const bytes = Buffer.from(logits, 'base64')
      const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
      const off = difference(values, expected.tensor('p33.logits'))
      const fp16 = expected.measured.fp16?.p33?.logits_max_abs as number
      expect(off.max, `${name}, ${dtype}`).toBeLessThanOrEqual(dtype === 'float32' ? 1.5e-4 : 3 * fp16)
      expect(tokenIds, `${name}, ${dtype}`).toEqual(expected.greedy.p33)
    }
  })
})
