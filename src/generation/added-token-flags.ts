import type { AddedToken } from './vocabulary'

/** What a word is made of, as Rust's regex crate has it. */
const WORD_CHARACTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u
/** All of these are single units of UTF-16. */
const SPACE = /^\p{White_Space}/u

/** Whether an added token is not simply found wherever its content stands. */
export function hasFlags({ single_word, lstrip, rstrip }: AddedToken): boolean {
  return single_word === true || lstrip === true || rstrip === true
}

/**
 * Splits texts at added tokens, heeding their flags: a `single_word` within a word is text, `lstrip` and `rstrip` take the
 * spaces beside the token away.
 * @param split cuts a text into added tokens and what is between them
 * @param tokenOf the added token that a section is, if it is one
 */
export function splitByFlags(
  split: (text: string) => string[],
  tokenOf: (section: string) => AddedToken | undefined,
): (text: string) => string[] {
  return (text) => {
    const sections: string[] = []
    let taken = 0 // what comes before has become sections
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

function spacesBefore(text: string, start: number, least: number): number {
  let at = start
  while (at > least && SPACE.test(text.charAt(at - 1))) at--
  return at
}

function spacesAfter(text: string, end: number): number {
  let at = end
  while (at < text.length && SPACE.test(text.charAt(at))) at++
  return at
}
