import type { Model } from '../model'
import { writeOutput } from './terminal'

/** What `--trace` asks for: the model's last steps, as ui.perfetto.dev and chrome://tracing read them. */
export async function writeTrace(file: string | undefined, model: Model): Promise<void> {
  if (file !== undefined) await writeOutput('--trace', file, `${JSON.stringify(model.trace().toChromeTrace())}\n`)
}
