import type { Model } from '../model'
import { checkOutput, writeOutput } from './terminal'

/** Checks that the file can be written before any work is done. @throws BillfishError INVALID_OPTION */
export async function checkTraceFile(file: string | undefined): Promise<void> {
  if (file !== undefined) await checkOutput('--trace', file)
}

/** What `--trace` asks for: the model's last steps, as ui.perfetto.dev and chrome://tracing read them. */
export async function writeTrace(file: string | undefined, model: Model): Promise<void> {
  if (file !== undefined) await writeOutput('--trace', file, `${JSON.stringify(model.trace().toChromeTrace())}\n`)
}
