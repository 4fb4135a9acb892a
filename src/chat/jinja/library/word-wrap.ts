import { valueError } from '../errors'
import { codePointCount, unitIndex } from '../values/code-points'
import type { Runtime } from '../values/values'

export interface WrapStyle {
  readonly width: number
  readonly breakLongWords: boolean
  readonly breakOnHyphens: boolean
}

/** Words, white space, and break points after hyphens and dashes, as in textwrap. */
const WITH_HYPHENS =
  /[\t-\r ]+|(?<=[\w!"'&.,?])-{2,}(?=\w)|[^\t-\r ]+?(?:-(?:(?<=[^\d\W]{2}-)|(?<=[^\d\W]-[^\d\W]-))(?=[^\d\W]-?[^\d\W])|(?=[\t-\r ]|$)|(?<=[\w!"'&.,?])(?=-{2,}\w))/gy
const WITHOUT_HYPHENS = /[\t-\r ]+|[^\t-\r ]+/gy

/** Wraps a line at `width` characters, as textwrap.wrap. @throws PythonError ValueError */
export function wrapped(rt: Runtime, text: string, style: WrapStyle): string[] {
  if (style.width <= 0) throw valueError(`invalid width ${style.width} (must be > 0)`)
  const chunks = text.match(style.breakOnHyphens ? WITH_HYPHENS : WITHOUT_HYPHENS) ?? []
  rt.budget.items(chunks.length * 4)
  chunks.reverse()
  const lines: string[] = []
  while (chunks.length > 0) {
    if (isSpace(chunks.at(-1)) && lines.length > 0) chunks.pop()
    const line = takeLine(rt, chunks, style)
    if (isSpace(line.at(-1))) line.pop()
    if (line.length > 0) lines.push(line.join(''))
  }
  return lines
}

/** Takes chunks from the end that fit on a line. */
function takeLine(rt: Runtime, chunks: string[], { width, breakLongWords, breakOnHyphens }: WrapStyle): string[] {
  const line: string[] = []
  let length = 0
  for (let chunk = chunks.at(-1); chunk !== undefined; chunk = chunks.at(-1)) {
    rt.budget.step()
    const size = codePointCount(rt, chunk)
    if (length + size > width) {
      if (size > width) takeLongWord(rt, chunks, line, width - length, breakLongWords, breakOnHyphens)
      break
    }
    line.push(chunk)
    chunks.pop()
    length += size
  }
  return line
}

function takeLongWord(
  rt: Runtime,
  chunks: string[],
  line: string[],
  room: number,
  breakLongWords: boolean,
  breakOnHyphens: boolean,
): void {
  const chunk = chunks.at(-1) ?? ''
  if (!breakLongWords) {
    if (line.length === 0) line.push(chunks.pop() ?? '')
    return
  }
  let end = unitIndex(rt, chunk, Math.max(1, room))
  const hyphen = chunk.lastIndexOf('-', end - 1)
  if (breakOnHyphens && codePointCount(rt, chunk) > room && hyphen > 0 && /[^-]/.test(chunk.slice(0, hyphen))) {
    end = hyphen + 1
  }
  rt.budget.text(end)
  line.push(chunk.slice(0, end))
  chunks[chunks.length - 1] = chunk.slice(end)
}

function isSpace(chunk: string | undefined): boolean {
  return chunk !== undefined && /^[\t-\r ]*$/.test(chunk)
}
