// Thread of a TextWorker: performs each TextTask and answers with a TextReply. `workerData` is the checkpoint
// directory.
import { type MessagePort, parentPort, type TransferListItem, workerData } from 'node:worker_threads'
import { BillfishError } from '../common/errors'
import { ownSchedstatPath } from './cpu-time'
import { performRendering, TemplateCache } from './template-rendering'
import type { TextReply, TextTask, TextWork } from './text-worker'
import { loadTokenizer } from './tokenizer'
import type { EncodingTokenizer } from './types'

type Answer<Kind extends keyof TextWork> = {
  readonly output: TextWork[Kind]['output']
  readonly transfer?: readonly TransferListItem[]
}

const port = parentPort as MessagePort
const templates = new TemplateCache()
let tokenizer: EncodingTokenizer | undefined

const work: { [Kind in keyof TextWork]: (input: TextWork[Kind]['input']) => Promise<Answer<Kind>> } = {
  async load() {
    tokenizer ??= await loadTokenizer(workerData as string)
    return { output: null }
  },
  async encode({ text, addSpecialTokens }) {
    const ids = Int32Array.from((tokenizer as EncodingTokenizer).encode(text, { addSpecialTokens }))
    return { output: ids, transfer: [ids.buffer] }
  },
  async render(rendering) {
    return { output: performRendering(rendering, templates) }
  },
}

async function reply({ kind, input }: TextTask): Promise<void> {
  try {
    const perform = work[kind] as (input: TextTask['input']) => Promise<Answer<keyof TextWork>>
    const { output, transfer = [] } = await perform(input)
    port.postMessage({ output } satisfies TextReply, transfer)
  } catch (error) {
    const { code, message } = error instanceof BillfishError ? error : new BillfishError('INTERNAL', String(error))
    port.postMessage({ error: { code, message } } satisfies TextReply)
  }
}

port.on('message', (task: TextTask) => void reply(task))
port.postMessage({ started: true, schedule: ownSchedstatPath() } satisfies TextReply)
