import { BillfishError } from '../common/errors'
import { createModel } from '../models/registry'
import { modulesOf, traceStage } from '../models/stages'
import type { StageSpec } from '../native/addon'
import { configSource } from '../placement/config-source'
import { findPreset, type NamedPreset, shortPresetNames } from '../placement/presets'

/** Weights that share one input and run in one call, such as q, k and v. */
export interface LinearShape {
  /** `qwen2-72b qkv`, or the requested text. */
  readonly name: string
  /** Rows of each weight. */
  readonly outs: readonly number[]
  readonly in: number
}

export interface AttentionHeads {
  readonly name: string
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  /** 0: no sliding window. */
  readonly window: number
}

/**
 * The linears of a comma-separated list. `qwen2-72b`: those of a layer and the head, grouped as the model runs them (q,
 * k and v in one call); `8192x4096`: outputs x inputs; `1024+256+256x1024`: several weights in one call.
 * @throws BillfishError INVALID_OPTION naming the entry and the valid forms
 */
export function linearShapes(list: string): LinearShape[] {
  return list.split(',').flatMap((entry) => {
    const text = entry.trim()
    const [, outs, inputs] = /^(\d+(?:\+\d+)*)x(\d+)$/i.exec(text) ?? []
    if (outs !== undefined && inputs !== undefined) {
      const shape = { name: text, outs: outs.split('+').map(Number), in: Number(inputs) }
      if ([...shape.outs, shape.in].every((length) => length > 0 && length <= MAX_DIMENSION)) return [shape]
      throw new BillfishError('INVALID_OPTION', `--shapes ${text}: numbers must be from 1 to ${MAX_DIMENSION}.`)
    }
    const preset = findPreset(text)
    if (!preset) throw unknown(text, 'nor outputs x inputs such as 8192x4096 or 1024+256+256x1024')
    return modelLinears(text, layerOf(preset))
  })
}

/**
 * The attention shapes of a comma-separated list of models, or of `64/8x128` (heads / KV heads x head dimension).
 * @throws BillfishError INVALID_OPTION naming the entry and the valid forms
 */
export function attentionHeads(list: string): AttentionHeads[] {
  return list.split(',').map((entry) => {
    const name = entry.trim()
    const [, ...numbers] = /^(\d+)\/(\d+)x(\d+)$/i.exec(name) ?? []
    if (numbers.length > 0) {
      const [heads = 0, kvHeads = 0, headDim = 0] = numbers.map(Number)
      if (heads > 0 && kvHeads > 0 && headDim > 0 && heads % kvHeads === 0 && Math.max(heads, headDim) <= 1024) {
        return { name, heads, kvHeads, headDim, window: 0 }
      }
      throw new BillfishError(
        'INVALID_OPTION',
        `--shapes ${name}: heads must be a multiple of the KV heads, and no number above 1024.`,
      )
    }
    const preset = findPreset(name)
    if (!preset) throw unknown(name, 'nor heads / KV heads x head dimension such as 64/8x128')
    return { name, ...modelHeads(layerOf(preset)) }
  })
}

const MAX_DIMENSION = 1 << 22 // rows or inputs of a weight

function unknown(text: string, otherwise: string): BillfishError {
  const names = shortPresetNames().join(', ')
  return new BillfishError(
    'INVALID_OPTION',
    `--shapes: '${text}' is neither a model, ${otherwise}. Models are ${names}; -int4, -int8 and -awq may follow.`,
  )
}

/** The program of a complete model with one layer. */
function layerOf({ config }: NamedPreset): StageSpec {
  const one = { ...config, num_hidden_layers: 1, quantization_config: undefined }
  const source = configSource(one, { method: 'none' })
  const model = createModel(one, source)
  return traceStage(model, source, { device: 'cpu', modules: modulesOf(model) })
}

function modelLinears(model: string, { program, weights }: StageSpec): LinearShape[] {
  return program.operators.flatMap((operator) => {
    if (operator.op !== 'linear') return []
    const matrices = operator.targets.flatMap(({ weight }) => {
      const spec = weights[weight]
      return spec?.kind === 'matrix' ? [spec] : []
    })
    const [first] = matrices
    if (!first) return []
    const name = `${model} ${callName(matrices.map(({ name }) => name))}`
    return [{ name, outs: matrices.map(({ out }) => out), in: first.in }]
  })
}

/** self_attn.q_proj.weight and its neighbors -> qkv; mlp.gate_proj and up_proj -> gate_up; self_attn.o_proj -> o; attn.c_proj as it is. */
function callName(tensors: readonly string[]): string {
  const paths = tensors.map((tensor) => tensor.replace(/\.weight$/, '').split('.'))
  const names = paths.map((path) => (path.at(-1) as string).replace(/_proj$/, ''))
  if (names.length > 1) return names.join(names.every((name) => name.length === 1) ? '' : '_')
  return names[0] === 'c' ? (paths[0]?.slice(-2).join('.') ?? 'c') : (names[0] as string)
}

function modelHeads({ program }: StageSpec): Omit<AttentionHeads, 'name'> {
  for (const operator of program.operators) {
    const layer = operator.op === 'attention' && program.cacheLayers[operator.layer]
    if (operator.op === 'attention' && layer) return { heads: operator.heads, ...layer, window: operator.window }
  }
  throw new BillfishError('INTERNAL', 'A layer without attention was traced.')
}
