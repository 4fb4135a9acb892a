import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../errors'
import { yieldToEventLoop } from '../event-loop'
import { onAbort } from '../options/signal'
import { type ChatTemplate, loadChatTemplate } from './chat-template'
import { type GenerationDefaults, readGenerationDefaults } from './generation-config'
import { TextWorker } from './text-worker'
import { findTokenizer, noTokenizerMessage } from './tokenizer'
import type { Tokenizer } from './types'

/** What a checkpoint brings for generation besides its weights. */
export interface GenerationAssets {
  /** Undefined if the checkpoint has none: then prompts are token ids, and answers too. */
  readonly tokenizer: Tokenizer | undefined
  /** For texts that are too long for `tokenizer.encode`; of no use without a tokenizer. */
  readonly worker: TextWorker
  readonly chatTemplate: ChatTemplate | undefined
  readonly defaults: GenerationDefaults
  /** Token ids are below this. */
  readonly vocabulary: number
  /** The error for a use that needs a tokenizer, where there is none. */
  missingTokenizer(use: string): BillfishError
}

/** What a checkpoint makes of texts and messages. */
export type TextAssets = Pick<GenerationAssets, 'tokenizer' | 'worker' | 'chatTemplate'>

/**
 * Loads tokenizer and chat template. Where the tokenizer encodes on the worker's thread alone, that has loaded it, too.
 * @throws BillfishError INVALID_CHECKPOINT; the signal's reason
 */
export async function loadTextAssets(directory: string, signal?: AbortSignal): Promise<TextAssets> {
  signal?.throwIfAborted()
  const tokenizer = await findTokenizer(directory)
  signal?.throwIfAborted()
  const chatTemplate = tokenizer && (await loadChatTemplate(directory, tokenizer))
  const worker = new TextWorker(tokenizer ?? { file: '' })
  if (tokenizer?.encode === undefined && tokenizer?.longestText) {
    const { output, cancel } = worker.load()
    const stopListening = onAbort(signal, () => cancel(signal?.reason))
    if (signal?.aborted) cancel(signal.reason)
    try {
      await output
    } catch (error) {
      await worker.close(new BillfishError('DISPOSED', 'The tokenizer could not be loaded.'))
      throw error
    } finally {
      stopListening()
    }
  }
  await warmUp({ tokenizer, chatTemplate })
  return { tokenizer, worker, chatTemplate }
}

/** Runs once what the first prompt will run: code that has never run takes ten times as long. */
async function warmUp({ tokenizer, chatTemplate }: Omit<TextAssets, 'worker'>): Promise<void> {
  await yieldToEventLoop()
  try {
    tokenizer?.encode?.('Hello, world 1.\n')
  } catch {
    // What is wrong is told to whoever has a text encoded.
  }
  await yieldToEventLoop()
  chatTemplate?.warmUp()
}

/**
 * Loads tokenizer, chat template and generation defaults. What of generation_config.json is not heeded becomes a warning
 * of the process each (BILLFISH_GENERATION_CONFIG).
 * @throws BillfishError INVALID_CHECKPOINT; the signal's reason
 */
export async function loadGenerationAssets(
  checkpoint: Pick<Checkpoint, 'directory' | 'config' | 'generationConfig' | 'generationConfigFault'>,
  { vocabulary }: { readonly vocabulary: number },
  signal?: AbortSignal,
): Promise<GenerationAssets> {
  const { directory, config, generationConfig, generationConfigFault } = checkpoint
  const assets = await loadTextAssets(directory, signal)
  const { tokenizer } = assets
  const missing = tokenizer === undefined ? await noTokenizerMessage(directory) : ''
  const defaults = readGenerationDefaults(generationConfig, config, tokenizer, vocabulary)
  for (const notice of [generationConfigFault ?? [], defaults.notices].flat()) {
    process.emitWarning(`${directory}: ${notice}`, { type: 'BillfishWarning', code: 'BILLFISH_GENERATION_CONFIG' })
  }
  return {
    ...assets,
    defaults,
    vocabulary,
    missingTokenizer: (use) => new BillfishError('INVALID_OPTION', `For ${use} a tokenizer is needed, but ${missing}.`),
  }
}
