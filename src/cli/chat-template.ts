import { readTextFile } from '../checkpoint/files'
import { BillfishError } from '../common/errors'

const MAX_TEMPLATE_BYTES = 4 << 20

/**
 * The text that `--chat-template` stands for: that of the file, or, as in vLLM, the template itself.
 * @throws BillfishError INVALID_OPTION for what is neither
 */
export async function chatTemplateText(given: string): Promise<string> {
  if (/{[{%#]/.test(given)) return given
  const lines = await readTextFile(given, MAX_TEMPLATE_BYTES)
  if (lines !== undefined) return lines.join('')
  throw new BillfishError('INVALID_OPTION', `--chat-template: there is no file ${given}, and it is no Jinja template.`)
}
