/**
 * A state of a {@link TextMachine}. It reads on from `at` and returns where it stopped; stopping in the same place without
 * another state asks for more text. What it leaves unread must be short, since it is read again with the next part.
 * @param isEnd whether no more text will come, so that it has to decide
 */
export type TextState = (text: string, at: number, isEnd: boolean) => number

/** Reads text that comes in parts, whatever the parts, in linear time. */
export abstract class TextMachine {
  protected abstract state: TextState
  #unread = ''

  push(text: string): void {
    this.#run(text, false)
  }

  /** Reads what it held back. */
  protected finish(): void {
    this.#run('', true)
  }

  #run(part: string, isEnd: boolean): void {
    const text = this.#unread + part
    let at = 0
    for (;;) {
      const { state } = this
      const next = state(text, at, isEnd)
      if (next === at && state === this.state) break
      at = next
    }
    this.#unread = text.slice(at)
  }
}

/** Where a tag is, or where text ends that may become one. */
export interface FoundTag {
  readonly at: number
  /** Undefined if none of them is there yet. */
  readonly tag?: string
}

/**
 * The first of `tags`, which start with `<`. Without one, all text before `at` is certain to be none.
 * @param isEnd whether the text is complete: its end will not become a tag
 */
export function findTag(text: string, from: number, tags: readonly string[], isEnd: boolean): FoundTag {
  for (let at = text.indexOf('<', from); at >= 0; at = text.indexOf('<', at + 1)) {
    const tag = tagAt(text, at, tags, isEnd)
    if (tag === 'perhaps') return { at }
    if (tag !== undefined) return { at, tag }
  }
  return { at: text.length }
}

/** Which of `tags` starts at `at`: undefined if none does, `perhaps` if the text is too short to tell. */
export function tagAt(text: string, at: number, tags: readonly string[], isEnd: boolean): string | undefined {
  const tag = tags.find((candidate) => text.startsWith(candidate, at))
  if (tag !== undefined || isEnd) return tag
  const rest = text.length - at
  const mayGrow = tags.some((candidate) => rest < candidate.length && candidate.startsWith(text.slice(at)))
  return mayGrow ? 'perhaps' : undefined
}

/** Where white space ends that starts at `at`. */
export function skipSpace(text: string, at: number): number {
  let end = at
  while (end < text.length && isSpace(text.charCodeAt(end))) end++
  return end
}

/** Where white space starts that `text` ends with. */
export function trailingSpace(text: string): number {
  let start = text.length
  while (start > 0 && isSpace(text.charCodeAt(start - 1))) start--
  return start
}

function isSpace(code: number): boolean {
  return code === 32 || code === 10 || code === 13 || code === 9
}
