import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { unsupportedFormat } from '../quantization/unsupported'

/**
 * Refuses a GGUF file, and a directory that has its weights in such files alone; what is no directory at all is left to
 * whoever reads it.
 *
 * @throws BillfishError UNSUPPORTED_MODEL
 */
export async function refuseGguf(path: string): Promise<void> {
  const names = path.endsWith('.gguf') ? [''] : await readdir(path).catch(() => [])
  const [first] = names.filter((name) => path.endsWith('.gguf') || name.endsWith('.gguf'))
  if (first === undefined || names.some((name) => name.endsWith('.safetensors'))) return
  throw unsupportedFormat(`${join(path, first)} holds weights`, 'GGUF (llama.cpp runs it)')
}
