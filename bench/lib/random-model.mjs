/**
 * A model of a given shape as a list of parts: what its weights are called in a checkpoint and in a GGUF file, and how large
 * they are. The writers of both decide how a part is stored.
 */
import { headDimOf, isRecurrent } from './shapes.mjs'

export const ROPE_THETA = 1_000_000
export const NORM_EPSILON = 1e-6

/**
 * @typedef {object} Part
 * @property {'constant' | 'bias' | 'matrix' | 'linear'} kind `matrix` keeps 16 bits where `linear` is quantized
 * @property {string[]} names in the checkpoint: one, or one for each expert; without the `.weight` of a linear
 * @property {string} gguf name in a GGUF file
 * @property {number} [inputs] @property {number} outputs
 * @property {number} [value] @property {number} [ggufValue] of a constant
 * @property {number[]} [extents] in the checkpoint, where they are not [outputs, inputs]
 * @property {number} [exponent] of a matrix: magnitudes in [2^exponent, 2^(exponent+1))
 * @property {string} [ggufType] of a matrix, where it is not the checkpoint's 16-bit type
 * @property {number} readShare how much of the part a decoded token reads
 */

const constant = (name, gguf, outputs, value = 1, ggufValue = value) => ({
  kind: 'constant',
  names: [name],
  gguf,
  outputs,
  value,
  ggufValue,
  readShare: 1,
})

const matrix = (name, gguf, inputs, outputs, rest = {}) => ({
  kind: 'matrix',
  names: [name],
  gguf,
  inputs,
  outputs,
  exponent: -6,
  readShare: 1,
  ...rest,
})

/** A quantized linear and, where it has one, its bias. */
function linear(name, gguf, inputs, outputs, hasBias = false) {
  const weight = { kind: 'linear', names: [name], gguf: `${gguf}.weight`, inputs, outputs, readShare: 1 }
  if (!hasBias) return [weight]
  return [weight, { kind: 'bias', names: [`${name}.bias`], gguf: `${gguf}.bias`, outputs, readShare: 1 }]
}

function attention(shape, prefix, block) {
  const { hidden, architecture } = shape
  const dim = headDimOf(shape)
  const [q, kv] = [shape.heads * dim, shape.kvHeads * dim]
  const hasBias = architecture === 'qwen2'
  const isGated = architecture === 'qwen3_5_text' // q_proj makes the output's gate, too
  const parts = [
    ...linear(`${prefix}.q_proj`, `${block}.attn_q`, hidden, isGated ? 2 * q : q, hasBias),
    ...linear(`${prefix}.k_proj`, `${block}.attn_k`, hidden, kv, hasBias),
    ...linear(`${prefix}.v_proj`, `${block}.attn_v`, hidden, kv, hasBias),
    ...linear(`${prefix}.o_proj`, `${block}.attn_output`, q, hidden),
  ]
  if (architecture === 'qwen2') return parts
  const norm = (name) => constant(`${prefix}.${name}.weight`, `${block}.attn_${name}.weight`, dim, ...normValues(shape))
  return [norm('q_norm'), norm('k_norm'), ...parts]
}

function gatedDeltaNet({ hidden, deltaNet }, prefix, block) {
  const { keyHeads, valueHeads, headDim, kernel } = deltaNet
  const values = valueHeads * headDim
  const channels = 2 * keyHeads * headDim + values
  const convolution = { extents: [channels, 1, kernel], exponent: -2, ggufType: 'F32' }
  return [
    ...linear(`${prefix}.in_proj_qkv`, `${block}.attn_qkv`, hidden, channels),
    ...linear(`${prefix}.in_proj_z`, `${block}.attn_gate`, hidden, values),
    matrix(`${prefix}.in_proj_b.weight`, `${block}.ssm_beta.weight`, hidden, valueHeads),
    matrix(`${prefix}.in_proj_a.weight`, `${block}.ssm_alpha.weight`, hidden, valueHeads),
    matrix(`${prefix}.conv1d.weight`, `${block}.ssm_conv1d.weight`, kernel, channels, convolution),
    constant(`${prefix}.A_log`, `${block}.ssm_a`, valueHeads, 0, -1),
    constant(`${prefix}.dt_bias`, `${block}.ssm_dt.bias`, valueHeads, 0),
    constant(`${prefix}.norm.weight`, `${block}.ssm_norm.weight`, headDim),
    ...linear(`${prefix}.out_proj`, `${block}.ssm_out`, values, hidden),
  ]
}

function mlp({ hidden, intermediate, experts, chosenExperts }, prefix, block) {
  const linears = (path, suffix) => [
    ...linear(`${path}.gate_proj`, `${block}.ffn_gate${suffix}`, hidden, intermediate),
    ...linear(`${path}.up_proj`, `${block}.ffn_up${suffix}`, hidden, intermediate),
    ...linear(`${path}.down_proj`, `${block}.ffn_down${suffix}`, intermediate, hidden),
  ]
  if (experts === undefined) return linears(prefix, '')
  const router = { ggufType: 'F32' }
  const ofExpert = (name) => (_, expert) => name.replace('.experts.', `.experts.${expert}.`)
  return [
    matrix(`${prefix}.gate.weight`, `${block}.ffn_gate_inp.weight`, hidden, experts, router),
    ...linears(`${prefix}.experts`, '_exps').map((part) => ({
      ...part,
      names: Array.from({ length: experts }, ofExpert(part.names[0])),
      readShare: chosenExperts / experts,
    })),
  ]
}

/** A norm's weights in the checkpoint and in GGUF: Qwen3.5 stores what is added to one, GGUF the sum. */
const normValues = ({ architecture }) => (architecture === 'qwen3_5_text' ? [0, 1] : [1, 1])

/** The parts of one decoder layer. @returns {Part[]} */
export function layerParts(shape, layer) {
  const prefix = `model.layers.${layer}`
  const block = `blk.${layer}`
  const norm = (name, gguf) =>
    constant(`${prefix}.${name}.weight`, `${block}.${gguf}.weight`, shape.hidden, ...normValues(shape))
  const secondNorm = shape.deltaNet === undefined ? 'ffn_norm' : 'post_attention_norm'
  return [
    norm('input_layernorm', 'attn_norm'),
    norm('post_attention_layernorm', secondNorm),
    ...(isRecurrent(shape, layer)
      ? gatedDeltaNet(shape, `${prefix}.linear_attn`, block)
      : attention(shape, `${prefix}.self_attn`, block)),
    ...mlp(shape, `${prefix}.mlp`, block),
  ]
}

/**
 * Weights of the decoder layers that a prompt's token is multiplied with: of experts, the chosen ones.
 * @param {boolean} skipsLastMlp the program leaves out the last MLP for tokens whose logits nobody asks for
 */
export function weightsPerPromptToken(shape, skipsLastMlp) {
  const lastMlp = `model.layers.${shape.layers - 1}.mlp.`
  const linears = modelParts(shape).filter(
    ({ kind, names }) => kind === 'linear' && !(skipsLastMlp && names[0].startsWith(lastMlp)),
  )
  return linears.reduce((sum, part) => sum + part.inputs * part.outputs * part.names.length * part.readShare, 0)
}

/** All parts, in the order of a file. @returns {Part[]} */
export function modelParts(shape) {
  const { hidden, vocab } = shape
  return [
    matrix('model.embed_tokens.weight', 'token_embd.weight', hidden, vocab, { readShare: 0 }), // one row of it
    ...Array.from({ length: shape.layers }, (_, layer) => layerParts(shape, layer)).flat(),
    constant('model.norm.weight', 'output_norm.weight', hidden, ...normValues(shape)),
    matrix('lm_head.weight', 'output.weight', hidden, vocab),
  ]
}
