import type { Golden } from './fixtures'

/** The modules of a fixture: embedding, layers, final norm, head. */
export function modulesOfFixture(name: string, expected: Golden): string[] {
  const qwen1 = name.startsWith('qwen1')
  const layers = Array.from(
    { length: layerCount(expected) },
    (_, i) => `${qwen1 ? 'transformer.h' : 'model.layers'}.${i}`,
  )
  return qwen1
    ? ['transformer.wte', ...layers, 'transformer.ln_f', 'lm_head']
    : ['model.embed_tokens', ...layers, 'model.norm', 'lm_head']
}

/** The number of decoder layers of a fixture, from its golden hidden states. */
export function layerCount(expected: Golden): number {
  let layers = 0
  for (;;) {
    try {
      expected.tensor(`p33.layer.${layers}`)
    } catch {
      return layers
    }
    layers++
  }
}

/**
 * Cuts [embedding, layers..., norm, head] at the given layers: cuts [1, 2] put layer 0 on the first device, layer 1 on
 * the second, and the others on the third.
 */
export function cut(
  modules: readonly string[],
  cuts: readonly number[],
  devices: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    modules.map((module, i) => [module, devices[cuts.filter((layer) => i > layer).length] as string] as const),
  )
}
