import { describe, expect, test } from 'vitest'
import { difference, golden, modelDirectory, textModels } from '../support/fixtures'
import { childProgram } from '../support/programs'

interface Outcome {
  readonly instructionSet: string
  readonly models: { name: string; dtype: 'float32' | 'auto'; tokenIds: number[]; logits: string }[]
}

/** Prints the outputs of all models. The instruction set is chosen once per process. */
const PROGRAM = `
async function main() {
  const outputs = []
  for (const { name, directory, prompt } of models) {
    for (const dtype of ['float32', 'auto']) {
      const model = await loadModel(directory, { dtype, maxModelLength: 64 })
      const { logits } = await model.forward(prompt)
      const { tokenIds } = await model.generate(prompt, { maxNewTokens: 24, temperature: 0, ignoreEos: true }).result()
      await model.dispose()
      outputs.push({ name, dtype, tokenIds, logits: Buffer.from(logits.buffer).toString('base64') })
    }
  }
  process.stdout.write(JSON.stringify({ instructionSet: devices().devices[0].instructionSet, models: outputs }))
}
main()`

const LESSER = ['scalar', 'avx2', 'avx512']

// The other goldens run with the best instruction set of the machine; these are what it would do without.
describe.each(LESSER)('with the %s kernels', (wanted) => {
  test('every golden holds', () => {
    const models = textModels.map((name) => {
      return { name, directory: modelDirectory(name), prompt: golden(name).prompts.p33 }
    })
    const { status, stdout, stderr } = childProgram(PROGRAM, { models }, { env: { BILLFISH_CPU_ISA: wanted } })
    expect(status, stderr).toBe(0)
    const outcome: Outcome = JSON.parse(stdout)
    const possible = LESSER.slice(0, LESSER.indexOf(wanted) + 1)
    expect(possible).toContain(outcome.instructionSet) // a machine without AVX2 runs the scalar ones
    expect(outcome.models).toHaveLength(textModels.length * 2)
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
