import { formatBytes, formatCount, formatMilliseconds, formatRate, formatTable } from '../common/format'
import type { Generation } from '../generation/generation'
import type { GenerateInput } from '../generation/prompt'
import type { GenerationResult } from '../generation/results'
import type { GenerateOptions } from '../generation/sampling-options'
import type { Model } from '../model'
import type { DeviceMemory } from '../model-state'
import type { Terminal } from './terminal'

/** Generates, streaming the text to standard output and ending it with a newline. */
export async function streamAnswer(
  terminal: Terminal,
  model: Model,
  input: GenerateInput,
  options: GenerateOptions,
  onText: (text: string) => void = () => {},
): Promise<GenerationResult> {
  const generation: Generation = model.generate(input, options)
  let text = ''
  try {
    for await (const chunk of generation) {
      text += chunk.text
      onText(chunk.text)
      terminal.stdout.write(chunk.text)
    }
  } finally {
    if (text !== '' && !text.endsWith('\n')) terminal.stdout.write('\n')
  }
  return generation.result()
}

/** Statistics of a generation, in two lines. */
export function statistics({ usage, timings, finishReason }: GenerationResult): string {
  const { promptTokens, completionTokens } = usage
  const first = `first token after ${formatMilliseconds(timings.timeToFirstToken)}`
  return (
    `${formatCount(promptTokens)} prompt tokens, ${first}, ${formatRate(timings.prefillTokensPerSecond)} tokens/s\n` +
    `${formatCount(completionTokens)} new tokens (${finishReason}), ` +
    `${formatRate(timings.decodeTokensPerSecond)} tokens/s after the first\n`
  )
}

/** A table: what each device holds, in bytes. */
export function memoryTable(memory: readonly DeviceMemory[]): string {
  const hasStates = memory.some(({ states }) => states > 0)
  const rows = memory.map(({ device, weights, kvCache, states, buffers }) => [
    device,
    ...[weights, kvCache, ...(hasStates ? [states] : []), buffers, weights + kvCache + states + buffers].map(
      formatBytes,
    ),
  ])
  const head = ['Device', 'Weights', 'KV cache', ...(hasStates ? ['States'] : []), 'Buffers', 'Together']
  return formatTable([head, ...rows], `l${'r'.repeat(head.length - 1)}`)
}
