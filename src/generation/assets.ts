import { Grammars } from '../chat/structured/grammars'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError } from '../common/errors'
import { yieldToEventLoop } from '../common/event-loop'
import { cancelledBy } from '../options/signal'
import { ChatTemplate, loadChatTemplate } from './chat-template'
import { readGenerationDefaults } from './generation-config'
import type { GenerationDefaults } from './sampling-options'
import { TextWorker } from './text-worker'
import { findTokenizer, noTokenizerMessage } from './tokenizer'
import type { Tokenizer } from './types'

/** What generation needs from a checkpoint besides the weights. */
export interface GenerationAssets {
  /** Undefined if the checkpoint has none: then prompts and answers are token ids. */
  readonly tokenizer: Tokenizer | undefined
  /** Encodes texts too long for `tokenizer.encode`; unused without a tokenizer. */
  readonly worker: TextWorker
  readonly chatTemplate: ChatTemplate | undefined
  /** Undefined without a tokenizer. */
  readonly grammars: Grammars | undefined
  readonly defaults: GenerationDefaults
  /** Upper bound (exclusive) of token ids. */
  readonly vocabulary: number
  /** Error for an operation that needs a tokenizer. */
  missingTokenizer(use: string): BillfishError
}

/** What is needed to process text and messages. */
export type TextAssets = Pick<GenerationAssets, 'tokenizer' | 'worker' | 'chatTemplate'>

/**
 * Loads tokenizer and chat template. If the tokenizer can only encode on the worker thread, it is loaded there, too.
 * @param givenTemplate a template's text, instead of the checkpoint's
 * @throws BillfishError INVALID_CHECKPOINT; INVALID_OPTION for the given template; the reason of the signal
 */
export async function loadTextAssets(
  directory: string,
  signal?: AbortSignal,
  givenTemplate?: string,
): Promise<TextAssets> {
  signal?.throwIfAborted()
  const tokenizer = await findTokenizer(directory)
  signal?.throwIfAborted()
  const chatTemplate = tokenizer && (await templateFor(directory, tokenizer, givenTemplate))
  const worker = new TextWorker(tokenizer ?? { file: '' })
  if (tokenizer?.encode === undefined && tokenizer?.maxTextBytes) {
    const { output, cancel } = worker.load()
    try {
      await cancelledBy(signal, cancel, output)
    } catch (error) {
      await worker.close(new BillfishError('DISPOSED', 'The tokenizer could not be loaded.'))
      throw error
    }
  }
  await warmUp({ tokenizer, chatTemplate })
  return { tokenizer, worker, chatTemplate }
}

async function templateFor(directory: string, tokenizer: Tokenizer, given: string | undefined) {
  if (given === undefined) return loadChatTemplate(directory, tokenizer)
  const template = ChatTemplate.ofCaller(given, tokenizer)
  template.check()
  return template
}

/** Warms up what the first prompt will use: code that has never run is ten times slower. */
async function warmUp({ tokenizer, chatTemplate }: Omit<TextAssets, 'worker'>): Promise<void> {
  await yieldToEventLoop()
  try {
    tokenizer?.encode?.('Hello, world 1.\n')
  } catch {
    // Reported when a text is encoded.
  }
  await yieldToEventLoop()
  chatTemplate?.warmUp()
}

/**
 * Loads tokenizer, chat template and generation defaults. Each ignored setting of generation_config.json becomes a
 * process warning (BILLFISH_GENERATION_CONFIG).
 * @throws BillfishError INVALID_CHECKPOINT; the reason of the signal
 */
export async function loadGenerationAssets(
  checkpoint: Pick<Checkpoint, 'directory' | 'config' | 'generationConfig' | 'generationConfigFault'>,
  { vocabulary }: { readonly vocabulary: number },
  signal?: AbortSignal,
  givenTemplate?: string,
): Promise<GenerationAssets> {
  const { directory, config, generationConfig, generationConfigFault } = checkpoint
  const assets = await loadTextAssets(directory, signal, givenTemplate)
  const { tokenizer } = assets
  const missing = tokenizer === undefined ? await noTokenizerMessage(directory) : ''
  const defaults = readGenerationDefaults(generationConfig, config, tokenizer, vocabulary)
  for (const notice of [generationConfigFault ?? [], defaults.notices].flat()) {
    process.emitWarning(`${directory}: ${notice}`, { type: 'BillfishWarning', code: 'BILLFISH_GENERATION_CONFIG' })
  }
  return {
    ...assets,
    grammars: tokenizer && new Grammars(tokenizer, vocabulary),
    defaults,
    vocabulary,
    missingTokenizer: (use) => new BillfishError('INVALID_OPTION', `${use} requires a tokenizer, but ${missing}.`),
  }
}
