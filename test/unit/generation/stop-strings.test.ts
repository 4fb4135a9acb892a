import { describe, expect, it } from 'vitest'
import { StopStrings } from '../../../src/generation/stop-strings'
import { Random } from '../../support/random.cjs'

/** Feeds `chunks` and tells all text that came out, the stop string, and what each chunk gave. */
function run(stops: string[], chunks: string[]): { text: string; stopped: string | null; given: string[] } {
  const finder = new StopStrings(stops)
  const results = chunks.map((chunk) => finder.push(chunk))
  const given = [...results.map(({ text }) => text), finder.flush()]
  return { text: given.join(''), stopped: results.at(-1)?.stopped ?? null, given }
}

describe('StopStrings', () => {
  it('passes text on at once when there are no stop strings', () => {
    expect(run([], ['a', 'b']).given).toEqual(['a', 'b', ''])
  })

  it('cuts before the stop string and drops what follows', () => {
    expect(run(['STOP'], ['one STOP two', ' three'])).toMatchObject({ text: 'one ', stopped: 'STOP' })
  })

  it('holds back only what may be the beginning of a stop string', () => {
    expect(run(['\n\n'], ['a\n', 'b\n', '\nc'])).toEqual({ text: 'a\nb', stopped: '\n\n', given: ['a', '\nb', '', ''] })
  })

  it('emits what it held back at the end', () => {
    expect(run(['END'], ['the E', 'N']).given).toEqual(['the ', '', 'EN'])
    expect(run(['END'], ['the E', 'N']).stopped).toBeNull()
  })

  it('holds back the longest possible beginning', () => {
    expect(run(['aab'], ['a', 'a', 'a', 'b'])).toEqual({ text: 'a', stopped: 'aab', given: ['', '', 'a', '', ''] })
  })

  it('takes the first complete stop string, and the longest of several that end together', () => {
    expect(run(['abcd', 'bc'], ['xabcd'])).toMatchObject({ text: 'xa', stopped: 'bc' })
    expect(run(['bc', 'abc'], ['xabcd'])).toMatchObject({ text: 'x', stopped: 'abc' })
  })

  it('gives the same result however the text is cut', () => {
    const numbers = new Random(1)
    const random = (below: number) => numbers.below(below)
    const word = (length: number): string => Array.from({ length }, () => 'ab'[random(2)]).join('')
    for (let round = 0; round < 500; round++) {
      const stops = Array.from({ length: 1 + random(3) }, () => word(1 + random(4)))
      const text = word(30)
      const whole = run(stops, [text])
      const chunks: string[] = []
      for (let start = 0; start < text.length; ) {
        const end = start + 1 + random(4)
        chunks.push(text.slice(start, end))
        start = end
      }
      const cut = run(stops, chunks)
      expect({ text: cut.text, stopped: cut.stopped }).toEqual({ text: whole.text, stopped: whole.stopped })
      if (whole.stopped === null) expect(whole.text).toBe(text)
      else expect(text.startsWith(whole.text + whole.stopped)).toBe(true)
    }
  })
})
