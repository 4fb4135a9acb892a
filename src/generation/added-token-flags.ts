import type { AddedToken } from './vocabulary'

/** Word characters, as in the Rust regex crate. */
const WORD_CHARACTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u
/** All of these are single UTF-16 code units. */
const SPACE = /^\p{White_Space}/u

/** Whether an added token needs more than a plain search for its content. */
export function hasFlags({ single_word, lstrip, rstrip }: AddedToken): boolean {
  return single_word === true || lstrip === true || rstrip === true
}

/**
 * Splits text at added tokens according to their flags: `single_word` tokens inside a word are ignored; `lstrip` and
 * `rstrip` absorb adjacent white space.
 * @param split splits a text into added tokens and the sections between them
 * @param tokenOf the added token that a section is, if any
 */
export function splitByFlags(
  split: (text: string) => string[],
  tokenOf: (section: string) => AddedToken | undefined,
): (text: string) => string[] {
  return (text) => {
    const sections: string[] = []
    let taken = 0 // end of what has been emitted
    let at = 0
    for (const section of split(text)) {
      const token = tokenOf(section)
      const [start, end] = [at, at + section.length]
      at = end
      if (token === undefined || (token.single_word === true && isWithinWord(text, start, end))) continue
      const before = text.slice(taken, token.lstrip === true ? spacesBefore(text, start, taken) : start)
      if (before !== '') sections.push(before)
      sections.push(section)
      taken = token.rstrip === true ? spacesAfter(text, end) : end
    }
    if (taken < text.length) sections.push(text.slice(taken))
    return sections
  }
}

function isWithinWord(text: string, start: number, end: number): boolean {
  const low = start > 1 && /[\udc00-\udfff]/.test(text.charAt(start - 1)) ? 2 : 1
  return (
    WORD_CHARACTER.test(text.slice(Math.max(0, start - low), start)) || WORD_CHARACTER.test(text.slice(end, end + 2))
  )
}

function spacesBefore(text: string, start: number, min: number): number {
  let at = start
  while (at > min && SPACE.test(text.charAt(at - 1))) at--
  return at
}

function spacesAfter(text: string, end: number): number {
  let at = end
  while (at < text.length && SPACE.test(text.charAt(at))) at++
  return at
}
