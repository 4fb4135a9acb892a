/** The verification of a padded MLP fails with one changed bit of any of its tensors, wherever it is. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { padCheckpoint } from '../../../src/index'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { findGatedMlps } from '../../../src/padding/gated-mlp'
import { verifyPadding } from '../../../src/padding/verify'
import { directoryOf } from '../../support/directories'
import { modelDirectory } from '../../support/fixtures'
import { Random } from '../../support/random.cjs'
import { readSafetensors } from '../../support/tensors'

const flipsATensor = 12

const numbers = new Random(7)
const random = (limit: number) => numbers.below(limit)

test.each([
  ['qwen2-bf16', 'tail'],
  ['qwen2-bf16', 'interleaved'],
  ['qwen2-tied-fp16', 'tail'],
  ['qwen2-gptq-int4-g32-desc_act', 'interleaved'],
  ['qwen2-gptq-int4-g128', 'tail'],
  ['qwen2-gptq-int4-asym', 'tail'],
  ['qwen2-gptq-int4-channelwise', 'interleaved'],
  ['qwen2-gptq-int4-g32-desc_act', 'tail'],
  ['qwen2-gptq-int8-g128', 'tail'],
  ['qwen2-gptq-v2-int4', 'tail'],
  ['qwen2-awq-int4-g128', 'tail'],
  ['qwen2-ct-w4a16', 'tail'],
  ['qwen2-ct-w8a16', 'tail'],
  ['qwen2-ct-int8', 'tail'],
  ['qwen3-fp8-block', 'tail'],
  ['qwen3-ct-fp8-channel', 'tail'],
  ['qwen3-ct-fp8-channel', 'interleaved'],
  ['qwen3-ct-nvfp4', 'tail'],
] as const)('%s, %s', async (name, placement) => {
  const output = join(directoryOf({}), 'out')
  const { paddedSize } = await padCheckpoint(modelDirectory(name), output, { parallelSizes: [4], placement })
  const checkpoint = await openCheckpoint(modelDirectory(name))
  const padded = await openCheckpoint(output)
  const found = findGatedMlps(checkpoint)
  const first = { ...found, mlps: found.mlps.slice(0, 1) }
  const files = readdirSync(output)
    .filter((file) => /^model.*\.safetensors$/.test(file))
    .sort()
    .map((file) => join(output, file))
  const verify = () => verifyPadding(checkpoint, first, files, paddedSize, placement, {})
  await expect(verify()).resolves.toMatchObject({ maxDifference: 0 })
  let flips = 0
  for (const file of files) {
    const whole = readFileSync(file)
    for (const [tensor, stored] of readSafetensors(file)) {
      if (!/layers\.0\.mlp\./.test(tensor)) continue
      const offset = padded.tensors.get(tensor)?.offset ?? -1
      for (let i = 0; i < flipsATensor; i++) {
        const bit = random(stored.data.length * 8)
        const byte = offset + (bit >> 3)
        whole[byte] = (whole[byte] as number) ^ (1 << (bit & 7))
        writeFileSync(file, whole)
        const answer = await verify().catch(({ message }: Error) => message)
        expect({ tensor, bit, answer }).toEqual({
          tensor,
          bit,
          answer: expect.stringMatching(
            /differs from the original one|g_idx' of .* puts|says that the layer's shape is|has the scale NaN/,
          ),
        })
        whole[byte] = (whole[byte] as number) ^ (1 << (bit & 7))
        flips++
      }
    }
    writeFileSync(file, whole)
  }
  expect(flips).toBeGreaterThan(2 * flipsATensor)
})
