import { cpSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { readGenerationDefaults } from '../../../src/generation/generation-config'
import { generationConfigKeys } from '../../../src/generation/generation-config-keys'
import { noTokenRules, rulesOfStep, type TokenRules } from '../../../src/generation/token-rules'
import type { Tokenizer } from '../../../src/generation/types'
import { type GenerateOptions, loadModel } from '../../../src/index'
import { scratchDirectory } from '../../support/directories'

const read = (said: object, config: object = {}, tokenizer?: Tokenizer) =>
  readGenerationDefaults({ ...said }, { ...config }, tokenizer, 50)
const nothingSaid = read({})

describe('readGenerationDefaults', () => {
  it('defaults to greedy decoding without limits', () => {
    expect(nothingSaid).toEqual({
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      maxNewTokens: undefined,
      maxLength: undefined,
      minNewTokens: undefined,
      minLength: undefined,
      stop: [],
      endTokenIds: new Set(),
      rules: noTokenRules,
      notices: [],
    })
    const nulls = Object.fromEntries(Object.keys(generationConfigKeys).map((key) => [key, null]))
    expect(read(nulls)).toEqual(nothingSaid)
  })

  it('reads what a Qwen2 checkpoint says', () => {
    const said = {
      bos_token_id: 43,
      pad_token_id: 43,
      do_sample: true,
      temperature: 0.7,
      top_k: 20,
      top_p: 0.8,
      repetition_penalty: 1.05,
      max_new_tokens: 512,
      eos_token_id: [45, 43],
      transformers_version: '4.37.0',
    }
    expect(read(said, { eos_token_id: 7 })).toEqual({
      ...nothingSaid,
      temperature: 0.7,
      topK: 20,
      topP: 0.8,
      repetitionPenalty: 1.05,
      maxNewTokens: 512,
      endTokenIds: new Set([45, 43]),
    })
  })

  it('takes do_sample false as temperature 0', () => {
    expect(read({ do_sample: false, temperature: 0.7 }).temperature).toBe(0)
    expect(read({ do_sample: true }).temperature).toBe(1)
  })

  it('finds the end tokens in config.json, in the tokenizer, and in Qwen v1 chat formats', () => {
    const ids: Record<string, number> = { '<|endoftext|>': 1, '<|im_start|>': 2, '<|im_end|>': 3 }
    const tokenizer = {
      specialTokens: { eos: '<|endoftext|>' },
      tokenToId: (token: string) => ids[token],
    } as unknown as Tokenizer
    const ends = (said: object, config: object) => [...read(said, config, tokenizer).endTokenIds]
    expect(ends({}, {})).toEqual([1])
    expect(ends({}, { eos_token_id: 9 })).toEqual([9, 1])
    expect(ends({ eos_token_id: 8 }, { eos_token_id: 9 })).toEqual([8, 1])
    expect(ends({ eos_token_id: null }, { eos_token_id: null })).toEqual([1])
    expect(ends({ eos_token_id: 'x' }, { eos_token_id: 9 })).toEqual([9, 1])
    expect(ends({ chat_format: 'chatml' }, {}).sort()).toEqual([1, 2, 3])
    expect(ends({ chat_format: 'raw' }, {})).toEqual([1])
  })

  it.each<[object, object, RegExp, object]>([
    [
      { do_sample: true, temperature: '0.7' },
      {},
      /temperature is "0\.7", .* must be a number from 0/,
      { temperature: 1 },
    ],
    [{ do_sample: 'yes' }, {}, /do_sample is "yes", .* must be true or false/, {}],
    [{ top_p: 1.5 }, {}, /top_p is 1\.5/, {}],
    [{ top_p: 0 }, {}, /top_p is 0/, {}],
    [{ top_k: -2 }, {}, /top_k is -2/, {}],
    [{ min_p: [0.1] }, {}, /min_p is \[0\.1\]/, {}],
    [{ repetition_penalty: -1 }, {}, /repetition_penalty is -1/, {}],
    [{ repetition_penalty: {} }, {}, /repetition_penalty is \{\}/, {}],
    [{ max_new_tokens: 0 }, {}, /max_new_tokens is 0/, {}],
    [{ max_new_tokens: 1e99 }, {}, /max_new_tokens is 1e\+99/, {}],
    [{ min_length: 1.5 }, {}, /min_length is 1\.5/, {}],
    [{ eos_token_id: 'x' }, {}, /eos_token_id is "x"/, {}],
    [{ eos_token_id: [49, -1, 50, 1.5] }, {}, /eos_token_id is .*partly ignored/, { endTokenIds: new Set([49]) }],
    [{}, { eos_token_id: 'x' }, /^config\.json: eos_token_id is "x"/, {}],
    [{ stop_strings: ['', 'x'] }, {}, /stop_strings is \["","x"\]/, {}],
    [{ stop_strings: 'x' }, {}, /stop_strings .*because there is no tokenizer/, {}],
    [{ suppress_tokens: 7.5 }, {}, /suppress_tokens is 7\.5/, {}],
    [
      { bad_words_ids: [[1, 2], [], [99]] },
      {},
      /bad_words_ids .*partly ignored/,
      { rules: { bannedSequences: [[1, 2]] } },
    ],
    [{ bad_words_ids: { a: 1 } }, {}, /bad_words_ids is \{"a":1\}/, {}],
    [{ sequence_bias: [[[1], 'much']] }, {}, /sequence_bias is .* each with a bias/, {}],
    [{ sequence_bias: [[[1], 1e308]] }, {}, /sequence_bias is/, {}],
    [{ no_repeat_ngram_size: 'two' }, {}, /no_repeat_ngram_size is "two"/, {}],
    [{ num_beams: 4 }, {}, /num_beams is 4, which is ignored: answers are sampled or greedy/, {}],
    [{ typical_p: 0.9 }, {}, /typical_p is 0\.9, which is ignored: use topP or minP/, {}],
    [{ temperatur: 0.9 }, {}, /temperatur is 0\.9, which is ignored because the key is unknown/, {}],
    [{ toString: 1 }, {}, /toString is 1/, {}],
  ])('warns about what it ignores in %j with %j, and goes on', (said, config, notice, rest) => {
    const defaults = read(said, config)
    expect(defaults.notices).toHaveLength(1)
    expect(defaults.notices[0]).toMatch(notice)
    expect(defaults).toMatchObject({ ...nothingSaid, notices: expect.any(Array), ...rest })
  })

  it('does not warn about values without effect', () => {
    const neutral = Object.entries(generationConfigKeys).flatMap(([key, { neutral = [] }]) =>
      neutral.map((value) => read({ [key]: value }).notices),
    )
    expect(neutral.length).toBeGreaterThan(10)
    expect(neutral.flat()).toEqual([])
  })
})

describe('rules for tokens', () => {
  const rules = (change: Partial<TokenRules>): TokenRules => ({ ...noTokenRules, ...change })
  const banned = (change: Partial<TokenRules>, prompt: number[], answer: number[]) =>
    rulesOfStep(rules(change), prompt, answer, 9).banned

  it('ban tokens everywhere, and at the beginning', () => {
    const both = { banned: [1, 2], bannedFirst: [3] }
    expect(banned(both, [5], [])).toEqual([1, 2, 3])
    expect(banned(both, [5], [6])).toEqual([1, 2])
  })

  it('ban the last token of a sequence after the others, also across the end of the prompt', () => {
    const words = { bannedSequences: [[7], [5, 6, 8], [6, 9], [1, 2, 3, 4, 5]] }
    expect(banned(words, [4, 5], [6])).toEqual([7, 8, 9])
    expect(banned(words, [4, 6], [5])).toEqual([7])
    expect(banned(words, [2, 3], [4])).toEqual([7])
  })

  it('ban tokens that would repeat an n-gram', () => {
    expect(banned({ noRepeat: 2 }, [1, 2, 3, 2], [4, 2])).toEqual([3, 4])
    expect(banned({ noRepeatOfPrompt: 2 }, [1, 2, 3, 2], [4, 2])).toEqual([3])
    expect(banned({ noRepeat: 3 }, [1, 2, 3], [1, 2])).toEqual([3])
    expect(banned({ noRepeat: 1 }, [1], [2])).toEqual([1, 2])
    expect(banned({ noRepeat: 5 }, [1], [2])).toEqual([])
  })

  it('favor the last token of a sequence', () => {
    const favored = {
      biasedSequences: [
        { tokens: [5, 6], bias: 2 },
        { tokens: [6], bias: -1 },
      ],
    }
    expect(rulesOfStep(rules(favored), [5], [], 9).biased).toEqual([
      { token: 6, bias: 2 },
      { token: 6, bias: -1 },
    ])
    expect(rulesOfStep(rules(favored), [4], [], 9).biased).toEqual([{ token: 6, bias: -1 }])
  })

  it('force tokens even if they are banned', () => {
    const all = rules({ banned: [3], forcedAfterFirst: [3], forcedLast: [4, 5] })
    expect(rulesOfStep(all, [1], [], 9)).toMatchObject({ forced: true, banned: [], biased: [{ token: 3 }] })
    expect(rulesOfStep(all, [1, 2], [], 9)).toMatchObject({ forced: false, banned: [3] })
    expect(rulesOfStep(all, [1], Array(8).fill(0), 9).biased.map(({ token }) => token)).toEqual([4, 5])
    expect(rulesOfStep(all, [1], Array(7).fill(0), 9).forced).toBe(false)
  })
})

describe('a checkpoint that says it', () => {
  const demo = resolve(__dirname, '../../../examples/demo-model')
  const question = [{ role: 'user' as const, content: 'Why pad a weight matrix?' }]
  const directory = scratchDirectory()
  beforeAll(() => cpSync(demo, directory, { recursive: true }))

  /** Answers with a generation_config.json, and the codes and texts of the warnings that loading gave. */
  async function answer(said: object, options: GenerateOptions = {}, input: number[] | typeof question = question) {
    writeFileSync(join(directory, 'generation_config.json'), JSON.stringify({ eos_token_id: 2047, ...said }))
    const warnings: (string | undefined)[] = []
    const listen = (warning: Error & { code?: string }) => warnings.push(`${warning.code} ${warning.message}`)
    process.on('warning', listen)
    try {
      await using model = await loadModel(directory, { maxModelLength: 256 })
      await new Promise(setImmediate)
      return { ...(await model.generate(input, options).result()), warnings }
    } finally {
      process.off('warning', listen)
    }
  }

  it('ends at its stop strings, unless the caller passes others or ignores them', async () => {
    const plain = await answer({})
    expect(plain.warnings).toEqual([])
    const [stop] = plain.text.match(/divide \w+/) ?? []
    const stopped = await answer({ stop_strings: [stop] })
    expect(stopped).toMatchObject({ finishReason: 'stop', stoppedBy: stop, warnings: [] })
    expect(stopped.text).toBe(plain.text.slice(0, plain.text.indexOf(stop as string)))
    expect((await answer({ stop_strings: stop }, { stop: [] })).text).toBe(plain.text)
    expect((await answer({ stop_strings: stop }, { ignoreEos: true, maxNewTokens: 60 })).tokenIds).toHaveLength(60)
  })

  it('bans, forces and repeats nothing', async () => {
    const { tokenIds } = await answer({})
    const [first, second] = tokenIds as [number, number]
    expect((await answer({ suppress_tokens: [second] })).tokenIds).not.toContain(second)
    const begun = await answer({ begin_suppress_tokens: [first] })
    expect(begun.tokenIds[0]).not.toBe(first)
    const worded = await answer({ bad_words_ids: [[first, second], [2047]] })
    expect(worded.tokenIds[0]).toBe(first)
    expect(worded.tokenIds[1]).not.toBe(second)
    expect(worded.stoppedBy).toBe(2047)
    const favored = await answer({ sequence_bias: [[[first, 300], 100.5]] })
    expect(favored.tokenIds.slice(0, 2)).toEqual([first, 300])
    const endless = { ignoreEos: true, maxNewTokens: 100 }
    const pairs = (ids: readonly number[]) => ids.slice(1).map((id, i) => `${ids[i]} ${id}`)
    const repeating = pairs((await answer({}, endless)).tokenIds)
    const unrepeated = pairs((await answer({ no_repeat_ngram_size: 2 }, endless)).tokenIds)
    expect(new Set(repeating).size).toBeLessThan(99)
    expect(new Set(unrepeated).size).toBe(99)
  })

  it('forces the first and the last token, also beside a minimum length', async () => {
    const said = { forced_bos_token_id: 300, forced_eos_token_id: [2047], min_new_tokens: 5 }
    const forced = await answer(said, { maxNewTokens: 5, logprobs: 0 }, [5])
    expect(forced.tokenIds).toHaveLength(5)
    expect([forced.tokenIds[0], forced.tokenIds[4]]).toEqual([300, 2047])
    expect(forced).toMatchObject({ finishReason: 'stop', stoppedBy: 2047 })
    expect(forced.logprobs?.[0]?.logprob).toBeLessThan(0)
  })

  it('are refused by name if they leave no token', async () => {
    const suppress_tokens = Array.from({ length: 2048 }, (_, id) => id)
    await expect(answer({ suppress_tokens })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/^None of the 2048 tokens may be chosen: 2048 are banned.*suppress_tokens/),
    })
  })

  it('sets the length of an answer', async () => {
    const { usage } = await answer({})
    const { promptTokens, completionTokens } = usage
    expect((await answer({ max_length: promptTokens + 7 })).tokenIds).toHaveLength(7)
    expect((await answer({ max_length: 20, max_new_tokens: 8 })).tokenIds).toHaveLength(8)
    const longer = { min_length: promptTokens + completionTokens + 9 }
    expect((await answer(longer)).tokenIds.length).toBeGreaterThanOrEqual(completionTokens + 9)
    expect((await answer({ min_new_tokens: 500, max_new_tokens: 9 })).tokenIds).toHaveLength(9)
    expect((await answer({ min_new_tokens: 500 }, { minNewTokens: 0 })).tokenIds).toHaveLength(completionTokens)
    await expect(answer({ max_length: 3 })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/max_length .* is 3 for prompt and answer combined; pass maxNewTokens/),
    })
    expect((await answer({ max_length: 3 }, { maxNewTokens: 4 })).tokenIds).toHaveLength(4)
  })

  it('loads with odd values, and warns about them', async () => {
    const { warnings, text } = await answer({ temperature: '0.7', top_p: 1.5, num_beams: 4, eos_token_id: 'x' })
    expect(warnings).toHaveLength(4)
    for (const warning of warnings)
      expect(warning).toContain(`BILLFISH_GENERATION_CONFIG ${directory}: generation_config`)
    expect(text).toBe((await answer({})).text)
  })
})
