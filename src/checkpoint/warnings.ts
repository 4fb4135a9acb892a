/** Process warnings about checkpoints that are loaded anyway; a file of its own for the state that the process shares. */

const emitted = new Set<string>()
const MAX_WARNINGS = 1000

/** Emits each warning once per process (code BILLFISH_CHECKPOINT). */
export function emitCheckpointWarnings(notices: readonly string[]): void {
  for (const notice of notices) {
    if (emitted.has(notice) || emitted.size >= MAX_WARNINGS) continue
    emitted.add(notice)
    process.emitWarning(notice, { type: 'BillfishWarning', code: 'BILLFISH_CHECKPOINT' })
  }
}
