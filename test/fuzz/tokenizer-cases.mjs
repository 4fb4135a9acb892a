/** One case of the tokenizer fuzzer: what it writes, and the texts that it encodes. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Random } from '../support/random.cjs'
import { mutateTokenizer } from './tokenizer-mutations.mjs'

export const REFUSALS = ['INVALID_CHECKPOINT', 'INVALID_OPTION']

const TEXTS = [
  ...['', 'a', ' ', `${'a'.repeat(40)}!`, 'Hello world, 123 \u00e9\u{1f600}', '<|im_start|>user\n', 'ab '.repeat(500)],
  ...[
    'hello\u2581lo\n\n  x',
    '\ud800 \udfff',
    '\u0000\u00ad\u200b',
    '\u4f60\u597d, 12345',
    'a<|x|> <|x|>a',
    "it's\r\n\tI'll ",
  ],
]

/** Writes the files of a case. @returns its text, its special tokens' treatment, and what was done to the files */
export function writeCase(directory, files, seed, number) {
  const random = new Random(Math.imul(seed, 0x9e3779b1) ^ number)
  const { changed, done } = mutateTokenizer(files, random)
  for (const [name, contents] of changed) writeFileSync(join(directory, name), contents)
  return { text: random.pick(TEXTS), addSpecialTokens: random.chance(0.5), done: done.join('; ') }
}
