import { describe, expect, it } from 'vitest'
import { BillfishError } from '../../../src/common/errors'
import { readGenerationDefaults } from '../../../src/generation/generation-config'
import { readPrompt } from '../../../src/generation/prompt'
import {
  answerLength,
  type GenerateOptions,
  type GenerationDefaults,
  generateOptions,
  resolveOptions,
} from '../../../src/generation/sampling-options'
import type { Tokenizer } from '../../../src/generation/types'
import { readOptions } from '../../../src/options/read-options'

const greedy = readGenerationDefaults({}, {}, undefined, 50)
const resolve = (given: GenerateOptions, defaults: GenerationDefaults = greedy, room = 100) => {
  const options = readOptions(generateOptions, given)
  return { ...resolveOptions(options, defaults, 50), ...answerLength(options, defaults, 20, 20 + room) }
}

describe('resolveOptions', () => {
  const sampling: GenerationDefaults = {
    ...greedy,
    temperature: 0.7,
    topK: 20,
    topP: 0.8,
    minP: 0.1,
    repetitionPenalty: 1.05,
    maxNewTokens: 30,
    endTokenIds: new Set([45, 43]),
  }

  it('fills in defaults', () => {
    const resolved = resolve({ seed: 5 })
    expect(resolved).toMatchObject({
      maxNewTokens: 100,
      minNewTokens: 0,
      stop: [],
      logprobs: -1,
      endTokenIds: new Set(),
    })
    expect(resolved.sampling).toEqual({
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      seed: [5, 0],
      logprobs: -1,
    })
  })

  it("takes the checkpoint's defaults, which options override", () => {
    expect(resolve({}, sampling).sampling).toMatchObject({ temperature: 0.7, topK: 20, topP: 0.8, minP: 0.1 })
    expect(resolve({}, sampling)).toMatchObject({
      maxNewTokens: 30,
      repetitionPenalty: 1.05,
      endTokenIds: new Set([45, 43]),
    })
    const given = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, maxNewTokens: 31, ignoreEos: true }
    const resolved = resolve({ ...given, stopTokenIds: [7] }, sampling)
    expect(resolved.sampling).toMatchObject({ temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 })
    expect(resolved).toMatchObject({ maxNewTokens: 31, endTokenIds: new Set([7]) })
  })

  it('treats undefined as not given', () => {
    expect(resolve({ temperature: undefined, maxNewTokens: undefined }, sampling).sampling.temperature).toBe(0.7)
  })

  it('samples if an option is given that has no effect at temperature 0', () => {
    expect(resolve({ topP: 0.9 }).sampling.temperature).toBe(1)
    expect(resolve({ topK: 5 }).sampling.temperature).toBe(1)
    expect(resolve({ minP: 0.1 }).sampling.temperature).toBe(1)
    expect(resolve({ topP: 0.9, temperature: 0 }).sampling.temperature).toBe(0)
    expect(resolve({ seed: 1 }).sampling.temperature).toBe(0)
  })

  it('splits the seed into two halves, and draws a random one if none is given', () => {
    expect(resolve({ seed: 2 ** 53 - 1 }).sampling.seed).toEqual([0xffffffff, 0x1fffff])
    expect(resolve({ seed: 0x1234567890abcdefn }).sampling.seed).toEqual([0x90abcdef, 0x12345678])
    expect(resolve({}).sampling.seed).not.toEqual(resolve({}).sampling.seed)
  })

  it('takes logit biases as an object or a Map', () => {
    const expected = { biasTokens: Int32Array.of(3, 49), biasValues: Float32Array.of(-100, 1.5) }
    expect(resolve({ logitBias: { 3: -100, 49: 1.5 } }).sampling).toMatchObject(expected)
    expect(
      resolve({
        logitBias: new Map([
          [3, -100],
          [49, 1.5],
        ]),
      }).sampling,
    ).toMatchObject(expected)
    expect(resolve({ logitBias: {} }).sampling).not.toHaveProperty('biasTokens')
  })

  it('accepts one stop string or several', () => {
    expect(resolve({ stop: 'a' }).stop).toEqual(['a'])
    expect(resolve({ stop: ['a', 'b'] }).stop).toEqual(['a', 'b'])
  })

  it('clamps the default length to what fits, but not a requested one', () => {
    expect(resolve({}, sampling, 12).maxNewTokens).toBe(12)
    expect(() => resolve({ maxNewTokens: 101 })).toThrow(/maxNewTokens is 101, but must be at most 100/)
    expect(() => resolve({}, sampling, 0)).toThrow(/1 tokens too long/)
  })

  it.each<[unknown, RegExp]>([
    [{ temperature: -0.1 }, /^temperature is -0\.1, but must be a number from 0/],
    [{ temperature: Number.NaN }, /^temperature is NaN/],
    [{ temperature: '1' }, /^temperature is "1"/],
    [{ topK: 1.5 }, /^topK is 1\.5, but must be a whole number/],
    [{ topK: -1 }, /^topK is -1/],
    [{ topP: 0 }, /^topP is 0, but must be a number greater than 0 and at most 1/],
    [{ topP: 1.01 }, /^topP is 1\.01/],
    [{ minP: 2 }, /^minP is 2/],
    [{ repetitionPenalty: 0 }, /^repetitionPenalty is 0/],
    [{ presencePenalty: 2.1 }, /^presencePenalty is 2\.1, but must be a number from -2 to 2/],
    [{ frequencyPenalty: Number.POSITIVE_INFINITY }, /^frequencyPenalty is Infinity/],
    [{ seed: -1 }, /^seed is -1/],
    [{ maxNewTokens: 0 }, /^maxNewTokens is 0, but must be a whole number of at least 1/],
    [{ minNewTokens: 20, maxNewTokens: 10 }, /^minNewTokens is 20, but must be at most maxNewTokens, which is 10/],
    [{ logitBias: [1] }, /^logitBias is \[1\], but must be an object or a Map/],
    [{ logitBias: { 50: 1 } }, /^logitBias has the key 50, .*token ids from 0 to 49/],
    [{ logitBias: { x: 1 } }, /^logitBias has/],
    [{ logitBias: { 4: 101 } }, /^logitBias\[4\] is 101, but must be a number from -100 to 100/],
    [{ stop: '' }, /^stop is ""/],
    [{ stop: ['a', ''] }, /^stop is \["a",""\]/],
    [{ stopTokenIds: [50] }, /^stopTokenIds is 50, but must be below the size of the vocabulary, 50/],
    [{ stopTokenIds: 3 }, /^stopTokenIds is 3/],
    [{ logprobs: true }, /^logprobs is true/],
    [{ ignoreEos: 'yes' }, /^ignoreEos is "yes"/],
    [{ signal: {} }, /^signal is \{\}, but must be an AbortSignal/],
    [
      { chatTemplate: { thinking: true } },
      /^There is no option chatTemplate\.thinking\. The options of chatTemplate are addGenerationPrompt, /,
    ],
    [{ maxTokens: 5 }, /^There is no option maxTokens of model\.generate\(\); it is called maxNewTokens\.$/],
    [null, /^options must be an object, not null/],
  ])('refuses %j', (options, message) => {
    expect(() => resolve(options as GenerateOptions)).toThrowError(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  it('refuses a seed of more than 64 bits', () => {
    expect(() => resolve({ seed: 1n << 64n })).toThrow(/^seed is 18446744073709551616n/)
    expect(resolve({ seed: (1n << 64n) - 1n }).sampling.seed).toEqual([0xffffffff, 0xffffffff])
  })

  it('accepts the edges of every range', () => {
    const low = { temperature: 0, topK: 0, topP: 1e-9, minP: 0, repetitionPenalty: 0.01, presencePenalty: -2, seed: 0 }
    const high = { temperature: 100, topP: 1, minP: 1, repetitionPenalty: 100, presencePenalty: 2, logprobs: 1000 }
    expect(() => resolve({ ...low, minNewTokens: 0, maxNewTokens: 1, logprobs: 0 })).not.toThrow()
    expect(() =>
      resolve({ ...high, minNewTokens: 100, maxNewTokens: 100, signal: new AbortController().signal }),
    ).not.toThrow()
  })
})

describe('readPrompt', () => {
  const assets = {
    tokenizer: undefined,
    chatTemplate: undefined,
    vocabulary: 50,
    missingTokenizer: (use: string) => new BillfishError('INVALID_OPTION', `no tokenizer for ${use}`),
  }

  it('takes token ids as they are', () => {
    expect(readPrompt([0, 49], assets, {}, 64)).toEqual([0, 49])
    expect(readPrompt(Int32Array.of(1, 2), assets, {}, 64)).toEqual([1, 2])
  })

  it.each<[unknown, RegExp]>([
    [[], /The prompt has no tokens/],
    [[1, 50], /Token 1 of the prompt is 50; token ids of this model are integers from 0 to 49/],
    [[-1], /Token 0 of the prompt is -1/],
    [[1.5], /Token 0 of the prompt is 1\.5/],
    [['a'], /Token 0 of the prompt is the text "a"/],
    [7, /must be a text, messages or token ids, not number/],
    ['hello', /no tokenizer for A text prompt/],
    [[{ role: 'user', content: 'x' }], /no tokenizer for A prompt of messages/],
  ])('refuses %j', (input, message) => {
    expect(() => readPrompt(input as number[], assets, {}, 64)).toThrowError(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  it('refuses messages if the checkpoint has no template', () => {
    const tokenizer = { encode: () => [1] } as unknown as Tokenizer
    expect(() => readPrompt([{ role: 'user', content: 'x' }], { ...assets, tokenizer }, {}, 64)).toThrow(
      /no chat template/,
    )
  })
})
