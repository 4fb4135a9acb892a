import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The layers of a checkpoint that have experts, by its config. */
export function sparseLayers(directory: string): number[] {
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'))
  const { num_hidden_layers: layers, mlp_only_layers: dense, decoder_sparse_step: step } = config.text_config ?? config
  const all = Array.from({ length: layers }, (_, layer) => layer)
  return all.filter((layer) => !(dense ?? []).includes(layer) && (layer + 1) % (step ?? 1) === 0)
}
