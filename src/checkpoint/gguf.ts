import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { unsupportedFormat } from './invalid'

const FORMAT = 'GGUF (llama.cpp runs it)'

/** Detected by content, since Ollama names the files by digest. */
async function beginsAsGguf(path: string): Promise<boolean> {
  if (!(await stat(path).catch(() => undefined))?.isFile()) return false
  const file = await open(path).catch(() => undefined)
  try {
    const { buffer, bytesRead } = (await file?.read(Buffer.alloc(4), 0, 4, 0)) ?? {
      buffer: Buffer.alloc(0),
      bytesRead: 0,
    }
    return buffer.toString('latin1', 0, bytesRead) === 'GGUF'
  } finally {
    await file?.close()
  }
}

/**
 * Rejects a GGUF file, and a directory whose only weights are such files. Other paths are left to the caller.
 *
 * @throws BillfishError UNSUPPORTED_MODEL
 */
export async function rejectGguf(path: string): Promise<void> {
  if (await beginsAsGguf(path)) throw unsupportedFormat(`${path} holds weights`, FORMAT)
  const names = path.endsWith('.gguf') ? [''] : await readdir(path).catch(() => [])
  const [first] = names.filter((name) => path.endsWith('.gguf') || name.endsWith('.gguf'))
  if (first === undefined || names.some((name) => name.endsWith('.safetensors'))) return
  throw unsupportedFormat(`${join(path, first)} holds weights`, FORMAT)
}
