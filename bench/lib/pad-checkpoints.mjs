/** Checkpoints that padding is measured with: decoder layers of Qwen2-72B's shapes. */
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LINEAR_FORMATS } from './linear-formats.mjs'
import { checkpointTensors, modelConfig, writeCheckpoint } from './random-checkpoint.mjs'
import { layerParts } from './random-model.mjs'
import { randomBfloats } from './random-numbers.mjs'
import { safetensorsHeader, tensorBytes, writeAll, writeSafetensors } from './safetensors-writer.mjs'

/** Without a number of layers. */
const SHAPE = {
  architecture: 'qwen2',
  format: 'int4',
  hidden: 8192,
  heads: 64,
  kvHeads: 8,
  intermediate: 29568,
  vocab: 512,
  maxPositions: 32768,
}

/** Layer `layer` in bf16; numbers repeat themselves, which neither copying nor padding looks at. */
function bf16Layer(layer, block) {
  const linears = layerParts(SHAPE, layer).filter(({ kind }) => kind === 'linear')
  return linears.map(({ names, inputs, outputs }) => ({
    name: `${names[0]}.weight`,
    dtype: 'BF16',
    shape: [outputs, inputs],
    data: () => {
      const data = new Uint16Array(inputs * outputs)
      for (let at = 0; at < data.length; at += block.length) data.set(block.subarray(0, data.length - at), at)
      return data
    },
  }))
}

function writeJson(directory, name, value) {
  writeFileSync(join(directory, name), JSON.stringify(value))
}

const bf16Config = (layers) => ({ ...modelConfig({ ...SHAPE, layers }), torch_dtype: 'bfloat16' })

/** @param {number} layers a file each, of 1.8 GB */
export function writeBf16Layers(directory, layers) {
  mkdirSync(directory)
  const block = randomBfloats('weights', 4 * 1024 * 1024, -6)
  const weightMap = {}
  for (let layer = 0; layer < layers; layer++) {
    const file = `model-${layer + 1}-of-${layers}.safetensors`
    const tensors = bf16Layer(layer, block)
    for (const { name } of tensors) weightMap[name] = file
    writeSafetensors(join(directory, file), tensors)
  }
  writeJson(directory, 'model.safetensors.index.json', { metadata: {}, weight_map: weightMap })
  writeJson(directory, 'config.json', bf16Config(layers))
}

/** @param {number} layers a file each, of 0.5 GB */
export function writeGptqLayers(directory, layers) {
  writeCheckpoint(directory, { ...SHAPE, layers }, layers)
}

/**
 * A whole model of 80 layers whose files have headers and no contents: they read as zeros and take no room on disk. Enough
 * for planning.
 */
export function writeHollowModel(directory, format) {
  const layers = 80
  mkdirSync(directory)
  const tensors =
    format === 'bf16'
      ? Array.from({ length: layers }, (_, layer) => bf16Layer(layer, [])).flat()
      : checkpointTensors({ ...SHAPE, layers })
  const layerOf = ({ name }) => Number(/layers\.(\d+)\./.exec(name)?.[1] ?? 0)
  const fileOf = (tensor) => `model-${layerOf(tensor) + 1}-of-${layers}.safetensors`
  for (const name of new Set(tensors.map(fileOf))) {
    const own = tensors.filter((tensor) => fileOf(tensor) === name)
    const file = openSync(join(directory, name), 'w')
    const header = writeAll(file, safetensorsHeader(own))
    ftruncateSync(file, header + own.reduce((sum, tensor) => sum + tensorBytes(tensor), 0))
    closeSync(file)
  }
  const weightMap = Object.fromEntries(tensors.map((tensor) => [tensor.name, fileOf(tensor)]))
  writeJson(directory, 'model.safetensors.index.json', { metadata: {}, weight_map: weightMap })
  const config = format === 'bf16' ? {} : { quantization_config: LINEAR_FORMATS.int4.config }
  writeJson(directory, 'config.json', { ...bf16Config(layers), ...config })
}
