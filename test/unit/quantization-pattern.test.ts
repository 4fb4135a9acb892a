import { describe, expect, it } from 'vitest'
import { Pattern } from '../../src/quantization/pattern'

const matches = (pattern: string, text: string) => Pattern.of(pattern, 'The test').matchesStart(text)

describe('Pattern', () => {
  // JavaScript's own engine is the reference: for friendly patterns both must say the same.
  const texts = [
    '',
    'a',
    'aab',
    'model.layers.1.mlp.down_proj',
    'model.layers.18.mlp.down_proj',
    'model.layers.19.self_attn.q_proj',
    'lm_head',
    'visual.blocks.0.attn.qkv',
    '0-]^',
  ]
  it.each([
    '',
    'a',
    'a*b',
    '(a|aa)b$',
    'a{2}b',
    'a{1,}',
    'a{0,1}ab',
    'a{3}',
    'a??b',
    'a{x',
    '.*',
    '.+\\.down_proj',
    '.*\\.(?:1[0-9]|2[0-3])\\..*',
    '.*\\.18\\..*gate.*',
    '^model\\.layers\\.\\d+\\.mlp\\.(gate|up|down)_proj$',
    '(?!.*(lm_head|visual)).*',
    '(?=.*mlp)model',
    '(?!model).',
    '[^a-l]',
    '[0\\-\\]^]+$',
    '[]a]',
    '\\w+_\\w+$',
    '\\S*\\D$',
    '(a*)*b',
    '(|a)+$',
    '(a?){3}b',
    '((a{0}){1000}){1000}a',
    'x|',
  ])('%s agrees with RegExp', (pattern) => {
    // In JavaScript an empty class is allowed; Python and this engine take the ] for a member.
    const reference = new RegExp(`^(?:${pattern.replace('[]a]', '[\\]a]')})`)
    for (const text of texts) expect([text, matches(pattern, text)]).toEqual([text, reference.test(text)])
  })

  it.each([
    ['(', 'unmatched ('],
    [')', 'unmatched )'],
    ['[a', 'unmatched ['],
    ['*a', 'nothing to repeat'],
    ['a**', 'nothing to repeat'],
    ['a{3,2}', 'impossible repetition'],
    ['a{100000}', 'impossible repetition'],
    ['(((a{1000}){1000}){1000})', 'too large'],
    ['\\1', 'unsupported escape'],
    ['\\', 'unsupported escape'],
    ['(?P<n>a)', 'kind of group'],
    ['(?<=a)', 'kind of group'],
    ['(?=a(?=b))', 'lookahead within a lookahead'],
    ['('.repeat(60) + ')'.repeat(60), 'nested too deeply'],
    ['a'.repeat(1001), 'more than 1000'],
  ])('refuses %s', (pattern, part) => {
    expect(() => matches(pattern, 'a')).toThrow(part)
  })

  it('does not backtrack', () => {
    const start = performance.now()
    const text = 'a'.repeat(1000)
    expect(matches('(a+)+$', `${text}!`)).toBe(false)
    expect(matches('(a|a)*(a|a)*(a|a)*b', text)).toBe(false)
    expect(matches('(?!(a*)*b)(a|aa)+$', text)).toBe(true)
    expect(performance.now() - start).toBeLessThan(2000)
  })
})
