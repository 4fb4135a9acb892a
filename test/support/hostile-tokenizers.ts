import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

/** Files of a directory by name; anything but a string is written as JSON. */
export type Files = Readonly<Record<string, unknown>>

const demo = resolve(__dirname, '../../examples/demo-model')
const tokenizer = JSON.parse(readFileSync(resolve(demo, 'tokenizer.json'), 'utf8'))
const config = JSON.parse(readFileSync(resolve(demo, 'tokenizer_config.json'), 'utf8'))

const edited = (parts: object): Files => ({
  'tokenizer.json': { ...tokenizer, ...parts },
  'tokenizer_config.json': config,
})
const model = (parts: object): Files => edited({ model: { ...tokenizer.model, ...parts } })
const split = (Regex: string, more: object = {}): Files =>
  edited({ pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false, ...more } })
const normalizers = (...parts: object[]): Files => edited({ normalizer: { type: 'Sequence', normalizers: parts } })
const replace = (from: string, content: string) => ({ type: 'Replace', pattern: { String: from }, content })
const raw = (text: string): Files => ({ 'tokenizer.json': text, 'tokenizer_config.json': config })
const times = <Item>(count: number, item: (i: number) => Item) => Array.from({ length: count }, (_, i) => item(i))
const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
const SEQUENCE = { Sequence: { id: 'A', type_id: 0 } }

/** Directories whose tokenizer would hang, bloat or crash a process that trusts them. */
export const hostileTokenizers: Readonly<Record<string, () => Files>> = {
  'a pattern that backtracks for ever': () => split('(a+)+$'),
  'alternatives that overlap': () => split('(?:a|aa|aaa)+$'),
  'nested quantifiers over a class': () => split('(?:[a-z]+.?)+[A-Z]{9}'),
  'a lookbehind that backtracks': () => split('(?<=^(?:a+)+)b'),
  'a back reference': () => split('(a*)*\\1b'),
  'a quadratic pattern': () => split('a*a*a*a*a*a*a*a*b'),
  'a pattern that takes seconds to compile': () => split('\\b'.repeat(2000)),
  'counts within counts': () => split('(?:(?:\\p{L}{1,99}){1,99}){1,99}b'),
  'a pattern of a megabyte': () => split('\\p{L}'.repeat(2e5)),
  'a thousand groups, kept where their match is removed': () =>
    split(`${'(a)?'.repeat(1000)}`, { behavior: 'Removed' }),
  'forty patterns': () =>
    edited({
      pre_tokenizer: { type: 'Sequence', pretokenizers: times(40, () => ({ type: 'Split', pattern: { Regex: 'a' } })) },
    }),
  'a pattern that cannot be compiled': () => split('(a'),
  'a replaced pattern that backtracks': () =>
    normalizers({ type: 'Replace', pattern: { Regex: '(a+)+$' }, content: '' }),
  'replacements that multiply': () => normalizers(...times(12, () => replace('a', 'a'.repeat(10)))),
  'a replacement between all characters': () => normalizers(replace('', 'a'.repeat(1e6))),
  'replacements by what stands before': () => normalizers(...times(8, () => replace('a', '$`$`'))),
  'a prefix of a megabyte': () => normalizers({ type: 'Prepend', prepend: 'a'.repeat(1e6) }),
  'prefixes that double': () => normalizers(...times(30, () => ({ type: 'Prepend', prepend: 'a' }))),
  'thousands of parts': () => normalizers(...times(5000, () => ({ type: 'NFC' }))),
  'byte levels of byte levels': () =>
    edited({ pre_tokenizer: { type: 'Sequence', pretokenizers: times(20, () => BYTE_LEVEL) } }),
  'pieces of no length': () => edited({ pre_tokenizer: { type: 'FixedLength', length: 0 } }),
  'pieces of negative length': () => edited({ pre_tokenizer: { type: 'FixedLength', length: -1 } }),
  'a space that is spelled with a megabyte': () =>
    edited({ pre_tokenizer: { type: 'Metaspace', replacement: 'a', str_rep: 'a'.repeat(1e6) } }),
  'parts that are no objects': () => edited({ normalizer: 3 }),
  'a sequence of nothing': () => edited({ normalizer: { type: 'Sequence', normalizers: { length: 1e9 } } }),
  'a part that nobody knows': () => edited({ pre_tokenizer: { type: 'constructor' } }),
  'a suffix of a megabyte': () => model({ end_of_word_suffix: 'a'.repeat(1e6) }),
  'a million added tokens': () => edited({ added_tokens: times(1e6, (id) => ({ id, content: `<${id}>` })) }),
  'an added token of megabytes': () => edited({ added_tokens: [{ id: 1, content: 'a'.repeat(2e6) }] }),
  'added tokens that a pattern normalizes for ever': () =>
    edited({
      added_tokens: [{ id: 1, content: `${'a'.repeat(60)}!`, normalized: true }],
      normalizer: { type: 'Replace', pattern: { Regex: '(a+)+$' }, content: '' },
    }),
  'added tokens that are none': () => edited({ added_tokens: [null, 3, { id: 1e9, content: 'x' }] }),
  'two million tokens': () =>
    raw(`{"model":{"type":"BPE","merges":[],"vocab":{${times(2e6, (id) => `"t${id}":${id}`).join()}}}}`),
  'a token of a megabyte': () => model({ vocab: { ['a'.repeat(1e6)]: 1 } }),
  'merges of megabytes': () => model({ merges: times(20, () => ['a'.repeat(1e6), 'b'.repeat(1e6)]) }),
  'merges that are none': () => model({ merges: [[1, 2], null] }),
  'an id beyond all': () => model({ vocab: { a: 1e15 } }),
  'words looked up in all their parts': () =>
    model({ type: 'WordPiece', merges: undefined, max_input_chars_per_word: 1e9, unk_token: '!', vocab: { a: 0 } }),
  'every prefix a token': () =>
    model({ type: 'Unigram', merges: undefined, unk_id: 0, vocab: times(4000, (i) => ['a'.repeat(i + 1), -i]) }),
  'scores that are none': () => model({ type: 'Unigram', merges: undefined, unk_id: 0, vocab: [['a', 'b'], 3] }),
  'a text put in a thousand times': () =>
    edited({ post_processor: { type: 'TemplateProcessing', single: times(1000, () => SEQUENCE) } }),
  'a template of nonsense': () => edited({ post_processor: { type: 'TemplateProcessing', single: ['A'] } }),
  'a template with an unknown token': () =>
    edited({ post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<none>' } }, SEQUENCE] } }),
  'a separator that is none': () => edited({ post_processor: { type: 'BertProcessing', cls: 3, sep: null } }),
  'a decoder that multiplies': () =>
    edited({ decoder: { type: 'Sequence', decoders: times(12, () => replace('a', 'a'.repeat(10))) } }),
  'a decoder of thousands of steps': () =>
    edited({ decoder: { type: 'Sequence', decoders: times(5000, () => ({ type: 'Fuse' })) } }),
  'a decoder that strips for ever': () => edited({ decoder: { type: 'Strip', content: ' ', start: 1e308, stop: 0 } }),
  'a character map of junk': () => normalizers({ type: 'Precompiled', precompiled_charsmap: '/'.repeat(1e6) }),
  'arrays in arrays': () => raw('['.repeat(5e6)),
  'millions of empty arrays': () => raw(`{"x":[${'[],'.repeat(5e6)}[]]}`),
  'an object of a million members': () => raw(`{"x":{${times(1e6, (i) => `"k${i}":0`).join()}}}`),
  'a number of a million digits': () => raw(`{"x":${'9'.repeat(1e6)}}`),
  'a string of ten megabytes': () => raw(`{"x":"${'x'.repeat(1e7)}"}`),
  'a string that never ends': () => raw(`{"x":"${'\\\\'.repeat(2e6)}`),
  'forty megabytes of long strings': () => raw(`{${times(20, (i) => `"k${i}":"${'x'.repeat(2e6)}"`).join()}}`),
  'forty megabytes of numbers': () =>
    raw(`{${times(200, (i) => `"k${i}":[${times(6000, () => '9'.repeat(32)).join()}]`).join()}}`),
  'a file of seventy megabytes': () => raw(' '.repeat(7e7)),
  'a million additional special tokens': () => ({
    'tokenizer.json': tokenizer,
    'tokenizer_config.json': { ...config, additional_special_tokens: times(1e6, (i) => `<${i}>`) },
  }),
  'special tokens that are no list': () => ({
    'tokenizer.json': tokenizer,
    'tokenizer_config.json': { ...config, additional_special_tokens: 7 },
  }),
  'merges of nothing but lines': () => ({
    'vocab.json': { a: 0 },
    'merges.txt': '\n'.repeat(3e7),
    'tokenizer_config.json': config,
  }),
  'ranks of nothing but lines': () => ({ 'qwen.tiktoken': '\n'.repeat(1.6e7) }),
  'ranks of millions of tokens': () => ({ 'qwen.tiktoken': times(1e6, (i) => `QUJD ${i}`).join('\n') }),
  'a rank of megabytes': () => ({ 'qwen.tiktoken': `${'QUJD'.repeat(2e6)} 0` }),
  'declared tokens beyond all': () => ({
    'vocab.json': { a: 0 },
    'merges.txt': '',
    'tokenizer_config.json': { ...config, added_tokens_decoder: { 999999999: { content: 'x' } } },
  }),
}
