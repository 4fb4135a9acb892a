/** Random tokenizers made of the format's parts, damaged, with texts to encode: the cases of the tokenizer fuzzer. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { randomOf } from './cases.mjs'
import { mutateBytes, mutateJson } from './mutations.mjs'

/** Codes of the errors that a case may end with. */
export const TOKENIZER_REFUSALS = ['INVALID_CHECKPOINT', 'INVALID_OPTION']

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

const FILES = ['tokenizer.json', 'tokenizer_config.json']
const GPT_PATTERNS = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  ...['\\p{N}{1,3}', '\\s+', '[^\\s]+|\\s+(?!\\S)', '\\p{L}+|\\s*[\\r\\n]+', ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s+'],
]
/** Some are refused, some match slowly, some mean something else in JavaScript. */
const ODD_PATTERNS = [
  ...[
    '(?:a|a)*b',
    '(.*a){12}',
    '\\p{L}*(\\p{L}+)*$',
    '(?<=a+)b',
    '[',
    '',
    '(?=x',
    '^',
    '$',
    '\\b',
    '.',
    '.*',
    'a|',
    '(a)|(b)',
  ],
  ...[
    '\\A\\w+\\z',
    '(?x) a b',
    '[[:alpha:]]+',
    '\\h+',
    '(?<n>a)\\k<n>',
    '[a&&b]',
    '\\p{Script=Han}+',
    '\\X',
    '(?>a+)b',
    '\\1',
  ],
  ...[
    '[\\p{L}--a]',
    '\\u{61}',
    '\\x61',
    '(?s).',
    '(?i)A',
    'a{0}',
    'a{2,1}',
    'a{1000}',
    '(?:a{50}){50}',
    '[^]',
    '[]]',
    '\\Q',
  ],
]
/** With a text of forty letters it never ends; rarely, since each costs all of the time that it may have. */
const ENDLESS_PATTERNS = ['(a+)+$', '(?:a|aa)+$', '(\\p{L}+\\p{L}+)+\\d']

const CONTENTS = ['', 'a', ' ', '\u2581', 'aa', '$&', '$1', '\\1', 'x'.repeat(50), '\u0120', '\ud800', '\u{1f600}']
const BEHAVIORS = ['Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous', 'isolated', 'nothing']

function pattern(random) {
  if (random.chance(0.5)) return { String: random.pick([...CONTENTS, 'he', 'l', '<', '\\s']) }
  if (random.chance(0.005)) return { Regex: random.pick(ENDLESS_PATTERNS) }
  return { Regex: random.pick(random.chance(0.5) ? GPT_PATTERNS : ODD_PATTERNS) }
}

function several(random, make, most = 4) {
  return Array.from({ length: random.below(most + 1) }, () => make(random))
}

const NORMALIZERS = [
  ...['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'StripAccents', 'Nmt', 'ByteLevel'].map((type) => () => ({ type })),
  (random) => ({ type: 'Strip', strip_left: random.chance(0.5), strip_right: random.chance(0.5) }),
  (random) => ({ type: 'Replace', pattern: pattern(random), content: random.pick(CONTENTS) }),
  () => ({ type: 'Replace', pattern: { String: ' ' }, content: '\u2581' }),
  (random) => ({ type: 'Prepend', prepend: random.pick([...CONTENTS, 'x'.repeat(10_000)]) }),
  (random) => ({
    type: 'BertNormalizer',
    clean_text: random.chance(0.5),
    handle_chinese_chars: random.chance(0.5),
    strip_accents: random.pick([null, true, false]),
    lowercase: random.chance(0.5),
  }),
  (random) => ({ type: 'Precompiled', precompiled_charsmap: random.pick(['', 'AAAA', 'A'.repeat(400), null, '!']) }),
  (random) => ({ type: 'Sequence', normalizers: several(random, normalizer) }),
]
const PRE_TOKENIZERS = [
  ...['Whitespace', 'WhitespaceSplit', 'BertPreTokenizer', 'UnicodeScripts'].map((type) => () => ({ type })),
  (random) => ({ type: 'ByteLevel', add_prefix_space: random.chance(0.5), use_regex: random.chance(0.5) }),
  (random) => ({
    type: 'Split',
    pattern: pattern(random),
    behavior: random.pick(BEHAVIORS),
    invert: random.chance(0.3),
  }),
  (random) => ({ type: 'Punctuation', behavior: random.pick(BEHAVIORS) }),
  (random) => ({ type: 'Digits', individual_digits: random.chance(0.5) }),
  (random) => ({
    type: 'Metaspace',
    replacement: random.pick(['\u2581', '_', '', 'ab']),
    prepend_scheme: random.pick(['always', 'first', 'never', 'odd', undefined]),
    add_prefix_space: random.pick([true, false, undefined]),
    split: random.pick([true, false, undefined]),
  }),
  (random) => ({ type: 'FixedLength', length: random.pick([1, 2, 5, 0, -1, 1.5, 1e9]) }),
  (random) => ({ type: 'CharDelimiterSplit', delimiter: random.pick(['a', ' ', '', 'ab']) }),
  (random) => ({ type: 'Sequence', pretokenizers: several(random, preTokenizer) }),
]
const POST_PROCESSORS = [
  () => ({ type: 'ByteLevel', trim_offsets: true }),
  (random) => ({
    type: 'TemplateProcessing',
    single: several(random, () =>
      random.pick([{ SpecialToken: { id: '<|im_end|>', type_id: 0 } }, { Sequence: { id: 'A' } }]),
    ),
    pair: [],
    special_tokens: { '<|im_end|>': { id: '<|im_end|>', ids: [random.pick([2, 999, -1])], tokens: ['<|im_end|>'] } },
  }),
  (random) => ({
    type: random.pick(['BertProcessing', 'RobertaProcessing']),
    sep: ['b', 1],
    cls: random.pick([['a', 0], 3]),
  }),
  (random) => ({ type: 'Sequence', processors: several(random, (inner) => inner.pick(POST_PROCESSORS)(inner), 2) }),
]
const DECODERS = [
  ...['ByteLevel', 'ByteFallback', 'Fuse', 'BPEDecoder', 'CTC', 'nothing'].map((type) => () => ({ type })),
  (random) => ({ type: 'Metaspace', replacement: '\u2581', prepend_scheme: random.pick(['always', 'never']) }),
  (random) => ({ type: 'WordPiece', prefix: random.pick(['##', '', 3]), cleanup: random.chance(0.5) }),
  (random) => ({
    type: 'Strip',
    content: random.pick([' ', '', 'ab']),
    start: random.pick([0, 1, 9, -1, 1e9]),
    stop: 0,
  }),
  (random) => ({ type: 'Replace', pattern: pattern(random), content: random.pick(CONTENTS) }),
  (random) => ({ type: 'Sequence', decoders: several(random, (inner) => inner.pick(DECODERS)(inner)) }),
]

function normalizer(random) {
  return random.pick(NORMALIZERS)(random)
}

function preTokenizer(random) {
  return random.pick(PRE_TOKENIZERS)(random)
}

const LETTERS = [
  'a',
  'b',
  'ab',
  'he',
  'l',
  'lo',
  'hello',
  '\u2581',
  '\u2581a',
  '##a',
  '##lo',
  '1',
  '\u00e9',
  '<0x0A>',
  '<unk>',
  'aa',
]

function model(random, bytePairs) {
  const unk = random.pick(['<unk>', null, undefined, 'none'])
  switch (random.below(6)) {
    case 0:
      return {
        type: 'Unigram',
        unk_id: random.pick([14, 0, null, 999]),
        vocab: LETTERS.map((token, i) => [token, random.pick([-i, 0, -1e300])]),
        byte_fallback: random.chance(0.2),
      }
    case 1:
      return {
        type: 'WordPiece',
        unk_token: unk,
        continuing_subword_prefix: random.pick(['##', '', undefined]),
        max_input_chars_per_word: random.pick([100, 0, 1e9]),
        vocab: Object.fromEntries(LETTERS.map((token, i) => [token, i])),
      }
    case 2:
      return { type: 'WordLevel', unk_token: unk, vocab: Object.fromEntries(LETTERS.map((token, i) => [token, i])) }
    case 3:
      return {
        type: 'BPE',
        vocab: Object.fromEntries(LETTERS.map((token, i) => [token, i])),
        merges: [['a', 'b'], ['l', 'o'], ['a', 'a'], 'h e'].slice(random.below(4)),
        unk_token: unk,
        fuse_unk: random.chance(0.5),
        byte_fallback: random.chance(0.5),
        end_of_word_suffix: random.pick([null, '</w>', '']),
        continuing_subword_prefix: random.pick([null, '##', '']),
      }
    default:
      return {
        ...bytePairs,
        ignore_merges: random.chance(0.3),
        fuse_unk: random.chance(0.2),
        dropout: random.pick([null, 0.5]),
      }
  }
}

function addedToken(random) {
  const flag = () => random.chance(0.4)
  return {
    id: random.pick([0, 5, 299, 300, 301, 400, 100_000]),
    content: random.pick(['<|x|>', 'a', ' ', 'Hello', '<', '\u2581', '\u00e9', '\ud800', 'a b', 'ab '.repeat(30)]),
    ...{ single_word: flag(), lstrip: flag(), rstrip: flag(), normalized: flag(), special: flag() },
  }
}

const maybe = (random, probability, members) => (random.chance(probability) ? members() : {})

/** A tokenizer.json with other parts than its own. */
function withOtherParts(json, random) {
  return {
    ...json,
    ...maybe(random, 0.5, () => ({ normalizer: random.chance(0.2) ? null : normalizer(random) })),
    ...maybe(random, 0.5, () => ({ pre_tokenizer: random.chance(0.2) ? null : preTokenizer(random) })),
    ...maybe(random, 0.3, () => ({ post_processor: random.pick(POST_PROCESSORS)(random) })),
    ...maybe(random, 0.3, () => ({ decoder: random.pick(DECODERS)(random) })),
    ...maybe(random, 0.3, () => ({ model: model(random, json.model) })),
    ...maybe(random, 0.3, () => ({ added_tokens: [...json.added_tokens, ...several(random, addedToken)] })),
  }
}

/**
 * tokenizer.json with the first 300 tokens of its vocabulary, so that most damage is elsewhere, and tokenizer_config.json.
 * @param {string} directory
 * @returns {Map<string, string>}
 */
export function smallTokenizer(directory) {
  const json = JSON.parse(readFileSync(join(directory, 'tokenizer.json'), 'utf8'))
  const kept = Object.entries(json.model.vocab).slice(0, 300)
  const names = new Set(kept.map(([name]) => name))
  json.model.vocab = Object.fromEntries(kept)
  json.model.merges = json.model.merges.filter((merge) => {
    const [left, right] = typeof merge === 'string' ? merge.split(' ') : merge
    return names.has(left) && names.has(right) && names.has(left + right)
  })
  return new Map([
    ['tokenizer.json', JSON.stringify(json)],
    ['tokenizer_config.json', readFileSync(join(directory, 'tokenizer_config.json'), 'utf8')],
  ])
}

/**
 * {@link smallTokenizer} and generation_config.json.
 * @param {string} directory
 * @returns {Map<string, string>}
 */
export function filesBesideWeights(directory) {
  const settings = {
    ...{ do_sample: true, temperature: 0.7, top_k: 20, top_p: 0.8, min_p: 0.01, repetition_penalty: 1.05 },
    ...{ bos_token_id: 0, eos_token_id: [1, 2], pad_token_id: 2, max_new_tokens: 64, max_length: 512, min_length: 1 },
    ...{ stop_strings: ['</s>'], suppress_tokens: [5], bad_words_ids: [[6, 7]], sequence_bias: [[[8], -2]] },
    ...{ no_repeat_ngram_size: 3, forced_eos_token_id: 2, transformers_version: '5.0.0' },
  }
  return new Map([...smallTokenizer(directory), ['generation_config.json', JSON.stringify(settings)]])
}

/** The files with other parts, or damage, or both; and what was done. */
function mutateTokenizer(files, random) {
  const changed = new Map(files)
  const done = []
  if (random.chance(0.7)) {
    const json = withOtherParts(JSON.parse(changed.get('tokenizer.json')), random)
    changed.set('tokenizer.json', JSON.stringify(json))
    done.push('other parts')
    if (random.chance(0.5)) return { changed, done }
  }
  const file = random.pick(FILES)
  const text = changed.get(file)
  const bytes = random.chance(0.1)
  const mutation = bytes ? mutateBytes(Buffer.from(text), text.length, random) : mutateJson(text, random)
  changed.set(file, bytes ? mutation.bytes : mutation.text)
  done.push(`${file}: ${mutation.done.join(', ')}`)
  return { changed, done }
}

/**
 * Writes the damaged files of a case into a directory.
 * @returns the text to encode, the option of encoding, and what was done to the files
 */
export function writeCase(directory, files, seed, number) {
  const random = randomOf(seed, number)
  const { changed, done } = mutateTokenizer(files, random)
  for (const [name, contents] of changed) writeFileSync(join(directory, name), contents)
  return { text: random.pick(TEXTS), addSpecialTokens: random.chance(0.5), done: done.join('; ') }
}
