import { expect, test } from 'vitest'
import { Answer, type Turn } from '../../../src/page/answer'
import { answerParts } from '../../../src/page/answer-parts'
import { placementOf } from '../../../src/page/placement'
import { ratesOf, withReading } from '../../../src/page/readings'
import type { ModelStatus, Status } from '../../../src/server/status'

async function* pieces(text: string, size: number) {
  for (let at = 0; at < text.length; at += size) yield text.slice(at, at + size)
}

const events = (...data: object[]) =>
  [...data.map((one) => JSON.stringify(one)), '[DONE]'].map((line) => `data: ${line}\n\n`).join('')
const delta = (delta: object, finish_reason: string | null = null) => ({ choices: [{ delta, finish_reason }] })

test.each([1, 7, 1000])('a stream cut into pieces of %i characters is the same answer', async (size) => {
  const text = `: ping\n\n${events(delta({ reasoning: 'hm' }), delta({ content: 'Hé' }), delta({ content: 'llo' }, 'length'), { usage: { completion_tokens: 3 } })}`
  const turns: Turn[] = []
  const answer = new Answer((turn) => turns.push(turn))
  for await (const part of answerParts(pieces(text, size))) answer.add(part)
  expect(turns.at(-1)).toMatchObject({ role: 'assistant', reasoning: 'hm', content: 'Héllo' })
  expect(turns.at(-1)?.note).toMatch(/^3 tokens, .*cut off/)
})

test('an error in a stream, and one that breaks off, are errors', async () => {
  const read = async (text: string) => {
    for await (const _ of answerParts(pieces(text, 10)));
  }
  await expect(read(events({ error: { message: 'no memory' } }))).rejects.toThrow('no memory')
  await expect(read('data: {"choices":[]}\n\n')).rejects.toThrow('connection was lost')
})

test('placement: runs of layers, and devices that have experts alone', () => {
  const layers = [0, 1, 2, 3].map((layer) => `model.layers.${layer}`)
  const stage = (device: string, modules: string[], experts = {}) => ({
    name: device,
    devices: [device],
    modules,
    experts,
    busy: 0,
  })
  const memory = ['a', 'b', 'cpu'].map((device) => ({ device })) as unknown as ModelStatus['memory']
  const experts = { cpu: ['model.layers.2.mlp.experts', 'model.layers.3.mlp.experts'] }
  const placed = placementOf({ stages: [stage('a', layers.slice(0, 2)), stage('b', layers.slice(2), experts)], memory })
  expect(placed.map(({ device, runs }) => [device, runs])).toEqual([
    ['a', [{ start: 0, length: 0.5, isExpertsOnly: false }]],
    ['b', [{ start: 0.5, length: 0.5, isExpertsOnly: false }]],
    ['cpu', [{ start: 0.5, length: 0.5, isExpertsOnly: true }]],
  ])
})

test('rates are differences of counters; a server that started again starts anew', () => {
  const reading = (uptime: number, generated: number, busy: number) =>
    ({
      uptime,
      devices: [],
      models: [{ tokens: { prompt: 0, generated }, stages: [{ devices: ['cpu'], busy }] }],
    }) as unknown as Status
  const readings = [reading(10, 100, 0), reading(11, 150, 500), reading(12, 200, 1000)].reduce(
    withReading,
    [] as readonly Status[],
  )
  expect(ratesOf(readings, 0)).toMatchObject({ generatedTokensPerSecond: 50, busy: new Map([['cpu', 0.5]]) })
  const again = withReading(readings, reading(1, 0, 0))
  expect(again).toHaveLength(1)
  expect(ratesOf(again, 0)).toBeUndefined()
})
