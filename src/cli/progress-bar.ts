import { Presets, SingleBar } from 'cli-progress'
import type { Terminal } from './terminal'

export interface ProgressBar {
  /** @param words values for the `{name}` placeholders of the format */
  update(done: number, all: number, words?: Readonly<Record<string, string>>): void
  /** Clears the bar; the next update starts a new one. */
  stop(): void
}

/**
 * A progress bar on standard error; undefined if that is not a terminal.
 * @param format as cli-progress takes it: `{bar}`, `{percentage}`, `{value}`, `{total}`, `{eta_formatted}` and words
 */
export function progressBar({ stderr }: Terminal, format: string): ProgressBar | undefined {
  if (stderr.isTTY !== true) return undefined
  const stream = stderr as NodeJS.WriteStream
  const bar = new SingleBar({ format, stream, clearOnComplete: true, hideCursor: true }, Presets.shades_classic)
  let isShown = false
  return {
    update(done, all, words) {
      if (isShown) bar.update(done, words)
      else bar.start(all, done, words)
      isShown = true
    },
    stop() {
      if (isShown) bar.stop()
      isShown = false
    },
  }
}
