// A thread that verifies padded MLPs: opens the files in `workerData`, and answers each MlpPair with its comparison.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { BillfishError } from '../errors'
import { type ComparedFiles, type MlpPair, openComparer } from './compare-mlps'
import type { ComparisonReply } from './comparing-threads'

const port = parentPort as MessagePort
const opening = openComparer(workerData as ComparedFiles)
opening.catch(() => {}) // the first pair is answered with it

async function reply(pair: MlpPair): Promise<void> {
  try {
    port.postMessage({ comparison: await (await opening).compare(pair) } satisfies ComparisonReply)
  } catch (error) {
    const { code, message } = error instanceof BillfishError ? error : new BillfishError('INTERNAL', String(error))
    port.postMessage({ error: { code, message } } satisfies ComparisonReply)
  }
}

port.on('message', (pair: MlpPair) => void reply(pair))
