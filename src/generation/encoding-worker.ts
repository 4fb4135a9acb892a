// The thread of a BackgroundEncoder: loads the tokenizer of the directory in `workerData`, and answers each LongText
// with its token ids.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { BillfishError } from '../errors'
import type { EncodingReply, LongText } from './background-encoder'
import { loadTokenizer } from './tokenizer'

const port = parentPort as MessagePort
const loading = loadTokenizer(workerData as string)
loading.catch(() => {}) // the first text is answered with it

async function reply({ text, addSpecialTokens }: LongText): Promise<void> {
  try {
    const ids = Int32Array.from((await loading).encode(text, { addSpecialTokens }))
    port.postMessage({ ids } satisfies EncodingReply, [ids.buffer])
  } catch (error) {
    const { code, message } = error instanceof BillfishError ? error : new BillfishError('INTERNAL', String(error))
    port.postMessage({ error: { code, message } } satisfies EncodingReply)
  }
}

port.on('message', (text: LongText) => void reply(text))
