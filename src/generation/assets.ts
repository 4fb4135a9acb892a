import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../errors'
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

/**
 * Loads tokenizer, chat template and generation defaults.
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function loadGenerationAssets(
  checkpoint: Pick<Checkpoint, 'directory' | 'config' | 'generationConfig'>,
  { vocabulary }: { readonly vocabulary: number },
): Promise<GenerationAssets> {
  const { directory, config, generationConfig } = checkpoint
  const tokenizer = await findTokenizer(directory)
  const missing = tokenizer === undefined ? await noTokenizerMessage(directory) : ''
  const worker = new TextWorker(tokenizer ?? { file: '' })
  if (tokenizer?.encode === undefined && tokenizer?.longestText) await worker.load().output
  return {
    tokenizer,
    worker,
    chatTemplate: tokenizer && (await loadChatTemplate(directory, tokenizer)),
    defaults: readGenerationDefaults(generationConfig, config, tokenizer, vocabulary),
    vocabulary,
    missingTokenizer: (use) => new BillfishError('INVALID_OPTION', `For ${use} a tokenizer is needed, but ${missing}.`),
  }
}
