import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { BillfishError } from '../errors'
import type { ComparedFiles, Comparer, Comparison, MlpPair } from './compare-mlps'

/** What a thread answers to an MlpPair. */
export type ComparisonReply =
  | { readonly comparison: Comparison }
  | { readonly error: { readonly code: BillfishError['code']; readonly message: string } }

/** Compiled, since a thread starts from a file that Node.js itself can run; found from src/ and from dist/ alike. */
const WORKER_FILE = join(__dirname, '..', '..', 'dist', 'padding', 'comparing-worker.js')

function failed(message: string, cause?: unknown): BillfishError {
  return new BillfishError('INTERNAL', `A thread that verifies padded MLPs has failed (${message}).`, { cause })
}

/** Comparers on `count` threads of their own. Closing one ends its thread, and fails what it is at. */
export function startComparers(files: ComparedFiles, count: number): Comparer[] {
  return Array.from({ length: count }, (): Comparer => {
    const worker = new Worker(WORKER_FILE, { name: 'billfish pad', workerData: files })
    worker.on('error', () => {}) // told by `compare`; between two of them there is nothing to tell
    return {
      compare: (pair: MlpPair) =>
        new Promise((resolve, reject) => {
          const settle = (finish: () => void) => {
            worker.off('message', onMessage).off('error', onError).off('exit', onExit)
            finish()
          }
          const onMessage = (reply: ComparisonReply) =>
            settle(() => {
              if ('comparison' in reply) resolve(reply.comparison)
              else reject(new BillfishError(reply.error.code, reply.error.message))
            })
          const onError = (cause: unknown) => settle(() => reject(failed(String(cause), cause)))
          const onExit = (code: number) => settle(() => reject(failed(`exit code ${code}`)))
          worker.on('message', onMessage).on('error', onError).on('exit', onExit)
          worker.postMessage(pair)
        }),
      async close() {
        await worker.terminate()
      },
    }
  })
}
