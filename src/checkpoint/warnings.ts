/** What is odd about a checkpoint that is read all the same. */

const told = new Set<string>()
const MOST = 1000

/** Makes each a warning of the process (BILLFISH_CHECKPOINT), once. */
export function emitCheckpointWarnings(notices: readonly string[]): void {
  for (const notice of notices) {
    if (told.has(notice) || told.size >= MOST) continue
    told.add(notice)
    process.emitWarning(notice, { type: 'BillfishWarning', code: 'BILLFISH_CHECKPOINT' })
  }
}
