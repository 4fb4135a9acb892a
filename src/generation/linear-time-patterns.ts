/**
 * Alternatives of the patterns by which the byte-level vocabularies in use split text into words. At each position each
 * takes time proportional to its match, or to the run of spaces there.
 */
const CONTRACTIONS = ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"]
const CASED_WORD = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const UNCASED_WORD = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
const ALTERNATIVES: ReadonlySet<string> = new Set([
  ...CONTRACTIONS,
  // GPT-2
  "'s",
  "'t",
  "'re",
  "'ve",
  "'m",
  "'ll",
  "'d",
  ' ?\\p{L}+',
  ' ?\\p{N}+',
  ' ?[^\\s\\p{L}\\p{N}]+',
  // cl100k and Llama 3, Qwen2 (single digits), Qwen3.5 (marks are parts of words)
  '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+',
  '[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+',
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+',
  '\\p{N}',
  '\\p{N}{1,3}',
  '\\p{N}{1,3}+',
  '\\p{N}+',
  ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*',
  ' ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*',
  ' ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+',
  ' ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*',
  // o200k and Mistral's tekken
  ...['', "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"].flatMap((ending) => [
    `[^\\r\\n\\p{L}\\p{N}]?${CASED_WORD}*${UNCASED_WORD}+${ending}`,
    `[^\\r\\n\\p{L}\\p{N}]?${CASED_WORD}+${UNCASED_WORD}*${ending}`,
  ]),
  ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*',
  // DeepSeek
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+',
  '[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+',
  ' ?[\\p{P}\\p{S}]+[\\r\\n]*',
  '[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+',
  // all of them
  '\\s*[\\r\\n]+',
  '\\s*[\\r\\n]',
  '\\s+(?!\\S)',
  '\\s+',
])
/** Consumes every run of spaces: without it, each space of a run would be matched against the whole run. */
const ANY_SPACES = '\\s+'

/** Whether a Split pattern is known to run in time linear in the length of the text. */
export function isLinearTimePattern(pattern: string): boolean {
  const alternatives = topLevelAlternatives(pattern)
  if (!alternatives.every((alternative) => ALTERNATIVES.has(alternative))) return false
  return alternatives.includes(ANY_SPACES) || !alternatives.some((alternative) => alternative.includes('\\s*'))
}

/** Splits at every `|` outside of groups and classes. */
function topLevelAlternatives(pattern: string): string[] {
  const alternatives: string[] = []
  let depth = 0
  let inClass = false
  let start = 0
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at]
    if (character === '\\') at++
    else if (character === ']') inClass = false
    else if (inClass) continue
    else if (character === '[') inClass = true
    else if (character === '(') depth++
    else if (character === ')') depth--
    else if (character === '|' && depth === 0) {
      alternatives.push(pattern.slice(start, at))
      start = at + 1
    }
  }
  alternatives.push(pattern.slice(start))
  return alternatives
}
