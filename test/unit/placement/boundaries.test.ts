import { describe, expect, test } from 'vitest'
import { planModel } from '../../../src/index'
import { explainSplit } from '../../../src/placement/explain/boundaries'
import type { PlanDevice } from '../../../src/placement/plan'
import type { NeedsOf } from '../../../src/placement/planner/stage-costs'

const GiB = 2 ** 30
const groups = [['embed'], ['layer.0'], ['layer.1'], ['layer.2'], ['norm', 'head']]

/** Needs that add up: so many GiB of memory and of bytes read for each group. */
function sums(memory: readonly number[], read: readonly number[]): NeedsOf {
  const sum = (values: readonly number[], first: number, end: number) =>
    values.slice(first, end).reduce((total, value) => total + value * GiB, 0)
  return (_device, first, end) => ({ memory: sum(memory, first, end), read: sum(read, first, end), operations: 0 })
}

/** All but the sentence of the slowest stage, which comes first. */
const explainBoundaries = (names: string[][], needs: NeedsOf, devices: PlanDevice[], ends: number[]) =>
  explainSplit(names, needs, devices, ends, 1).slice(1)

const device = (name: string, memory: number, speed?: number): PlanDevice => ({
  device: name,
  memory: memory * GiB,
  ...(speed && { speed }),
})

describe('a boundary is explained by what moving it would break', () => {
  test('room, to the byte', () => {
    const needs = sums([2, 1, 1, 1, 3], [0, 1, 1, 1, 1])
    expect(explainBoundaries(groups, needs, [device('a', 3.5), device('b', 5)], [2, 5])).toEqual([
      'b begins with layer.1: a has no room for layer.1 (it would take 1.00 GiB more, 512.00 MiB are left); ' +
        'b has no room for layer.0 (it would take 1.00 GiB more, 0.00 MiB are left).',
    ])
    const [exactlyEnough] = explainBoundaries(groups, needs, [device('a', 4), device('b', 6)], [2, 5])
    expect(exactlyEnough).not.toMatch(/no room/)
    const [head] = explainBoundaries(groups, needs, [device('a', 7), device('b', 3)], [4, 5])
    expect(head).toMatch(/^b begins with norm and head: a has no room for norm and head \(they would take 3.00 GiB/)
  })

  test('time', () => {
    const needs = sums([1, 1, 1, 1, 1], [0, 2, 2, 2, 1])
    const all = [device('a', 9), device('b', 9), device('c', 9)]
    expect(explainBoundaries(groups, needs, all, [2, 3, 5])).toEqual([
      'b begins with layer.1: with layer.1, a would be the slowest stage (it would read 4.00 GiB a token, the slowest ' +
        'reads 3.00 GiB now); with layer.0, b would be the slowest stage (it would read 4.00 GiB a token, the slowest ' +
        'reads 3.00 GiB now).',
      'c begins with layer.2: with layer.2, b would be the slowest stage (it would read 4.00 GiB a token, the slowest ' +
        'reads 3.00 GiB now); with layer.1, c would be the slowest stage (it would read 5.00 GiB a token, the slowest ' +
        'reads 3.00 GiB now).',
    ])
  })

  test('time on devices of different speed', () => {
    const needs = sums([1, 1, 1, 1, 1], [0, 2, 2, 2, 1])
    const [sentence] = explainBoundaries(groups, needs, [device('a', 9, 1.5), device('b', 9, 1)], [3, 5])
    expect(sentence).toMatch(
      /with layer.2, a would be the slowest stage .*6.00 GiB .*at a speed of 1.5, more than b takes/,
    )
    expect(sentence).toMatch(/with layer.1, b would be the slowest stage .*5.00 GiB .*the slowest reads 3.00 GiB now/)
  })

  test('compute time, if many tokens share the weights read', () => {
    const reading = sums([1, 1, 1, 1, 1], [0, 2, 2, 2, 1])
    const needs: NeedsOf = (name, first, end) => ({ ...reading(name, first, end), operations: (end - first) * 1e9 })
    expect(explainSplit(groups, needs, [device('cuda:0', 9), device('cuda:1', 9)], [3, 5], 1)).toEqual([
      'The slowest stage is that of cuda:0, which reads 4.00 GiB of weights a token: no other split within these budgets ' +
        'has a faster slowest stage.',
      'cuda:1 begins with layer.2: with layer.2, cuda:0 would be the slowest stage (it would read 6.00 GiB a token, the ' +
        'slowest reads 4.00 GiB now); with layer.1, cuda:1 would be the slowest stage (it would read 5.00 GiB a token, the ' +
        'slowest reads 4.00 GiB now).',
    ])
    expect(explainSplit(groups, needs, [device('cuda:0', 9), device('cuda:1', 9)], [3, 5], 400)).toEqual([
      'The slowest stage is that of cuda:0, which computes 1200.0 billion operations in a step of 400 tokens: no other ' +
        'split within these budgets has a faster slowest stage.',
      'cuda:1 begins with layer.2: with layer.2, cuda:0 would be the slowest stage (it would compute 1600.0 billion ' +
        'operations in a step, the slowest computes 1200.0 billion operations now); with layer.1 on cuda:1, the slowest ' +
        'stage would be no faster and memory no more even.',
    ])
  })

  test('evenness, if neither decides', () => {
    const needs = sums([1, 1, 1, 1, 1], [0, 0, 0, 0, 5])
    const [sentence] = explainBoundaries(groups, needs, [device('a', 4), device('b', 4)], [2, 5])
    expect(sentence).toBe(
      'b begins with layer.1: with layer.1 on a, the slowest stage would be no faster and memory no more even; with ' +
        'layer.0 on b, the slowest stage would be no faster and memory no more even.',
    )
  })
})

describe('an empty device', () => {
  const needs = sums([1, 1, 1, 1, 1], [0, 0, 5, 0, 0])

  test('for lack of memory', () => {
    const [sentence] = explainBoundaries(groups, needs, [device('a', 0.5), device('b', 9)], [0, 5])
    expect(sentence).toBe(
      'a stays empty: the smallest stage there could be takes 1.00 GiB, and it may hold 512.00 MiB.',
    )
  })

  test('because it would not help', () => {
    const sentences = explainBoundaries(groups, needs, [device('a', 9), device('b', 9)], [5, 5])
    expect(sentences).toEqual(['b stays empty: no split that has a stage there and fits has a faster slowest stage.'])
  })
})

test('a plan of several devices has a sentence for each boundary and each empty device', async () => {
  const devices = [24, 24, 1].map((memory, i) => ({ device: i, memory: memory * GiB }))
  const { explanation, stages } = await planModel('Qwen3-8B', { devices })
  expect(stages.map(({ device }) => device)).toEqual(['cuda:0', 'cuda:1'])
  expect(explanation.filter((line) => / begins with /.test(line))).toHaveLength(1)
  expect(explanation.filter((line) => /^cuda:2 stays empty/.test(line))).toHaveLength(1)
})
