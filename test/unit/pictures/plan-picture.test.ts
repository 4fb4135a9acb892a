import { describe, expect, it, test } from 'vitest'
import { COLORS } from '../../../src/pictures/plan-card'
import { planPicture } from '../../../src/pictures/plan-picture'
import type { ShownPlan } from '../../../src/pictures/planned-devices'
import { escapeXml, fitted, textWidth } from '../../../src/pictures/svg'
import { type Box, boxes, overlap, parseSvg } from '../../support/svg'

const GiB = 2 ** 30

/**
 * A plan of equal shares, of `ranks` devices that compute each stage together; `prefix` and `over` change what its devices
 * are called and how full they are.
 */
function planOf(
  devices: number,
  layers: number,
  { over = 0, overhead = 0, budget = (24 * GiB) as number | null, prefix = 'cuda:', ranks = 1 } = {},
) {
  const modules = ['model.embed_tokens', ...Array.from({ length: layers }, (_, i) => `model.layers.${i}`)]
  modules.push('model.norm', 'lm_head')
  const count = devices / ranks
  const bounds = Array.from({ length: count + 1 }, (_, i) => Math.round((i * modules.length) / count))
  const stages = Array.from({ length: devices }, (_, i) => {
    const [rank, stage] = [i % ranks, Math.floor(i / ranks)]
    const limit = budget ?? 24 * GiB
    const total = over > 0 ? Math.round(limit * (1 + over)) : Math.round((limit * (i + 1)) / (devices + 1))
    const [kvCache, buffers] = [Math.round(total / 4), Math.round(total / 100)]
    const weights = total - kvCache - buffers - overhead
    const parts = { weights, kvCache, states: 0, buffers, overhead, total, read: total - kvCache }
    const own = modules.slice(bounds[stage], bounds[stage + 1])
    return { device: `${prefix}${i}`, rank, ranks, modules: own, ...parts, budget }
  })
  return { stages, fits: over === 0 } satisfies ShownPlan
}

const names = { title: 'Qwen2-72B-Instruct', subtitle: 'context 8,192 · 4 sequences' }

function draw(plan: ShownPlan, options = names) {
  const elements = parseSvg(planPicture(plan, options))
  const [, , width = 0, height = 0] = elements[0]?.attributes.viewBox?.split(' ').map(Number) ?? []
  const picture: Box = { left: 0, top: 0, right: width, bottom: height, what: 'picture' }
  const tooltips = elements
    .filter(({ name, parents }) => name === 'title' && parents.length > 1)
    .map(({ text }) => text)
  return { elements, picture, tooltips, texts: boxes(elements, 'text'), rects: boxes(elements, 'rect') }
}

function inside(box: Box, frame: Box): boolean {
  return box.left >= frame.left && box.top >= frame.top && box.right <= frame.right && box.bottom <= frame.bottom
}

it('shows experts on another device as cells of their layers, in a card without an arrow', () => {
  const plan = planOf(2, 40)
  const [stage, other] = plan.stages as [(typeof plan.stages)[number], (typeof plan.stages)[number]]
  const experts = Array.from({ length: 40 }, (_, layer) => `model.layers.${layer}.mlp.experts`)
  const branch = { ...other, device: 'cpu', modules: experts, branch: true } as const
  const { elements, texts, rects, picture, tooltips } = draw({ stages: [stage, branch], fits: true })
  expect(tooltips).toEqual([...stage.modules, ...experts])
  const shown = elements.filter(({ name }) => name === 'text').map(({ text }) => text)
  expect(shown).toContain('stage 1')
  expect(shown).toContain('experts of stage 1')
  expect(shown).toContain('39')
  expect(elements.filter(({ name, attributes }) => name === 'path' && attributes['stroke-width'])).toEqual([])
  for (const box of [...texts, ...rects]) expect(inside(box, picture), box.what).toBe(true)
})

describe.each([1, 2, 3, 4, 5, 7, 8, 9, 16])('a picture of %i devices', (devices) => {
  it.each([4, 28, 80, 128])(
    'with %i layers shows every module once, in its frame, and no text over another',
    (layers) => {
      if (devices > layers) return
      for (const [over, overhead] of [[0], [0.001, GiB / 2], [0.7], [1e5, GiB]] as const) {
        const plan = planOf(devices, layers, { over, overhead })
        const { picture, texts, rects, tooltips } = draw(plan)
        expect(tooltips).toEqual(plan.stages.flatMap(({ modules }) => modules))
        for (const box of [...texts, ...rects]) expect(inside(box, picture), box.what).toBe(true)
        for (const [i, text] of texts.entries()) {
          const other = texts.slice(i + 1).find((later) => overlap(text, later))
          expect(other && `${text.what} over ${other.what}`).toBeUndefined()
        }
      }
    },
  )
})

describe.each([
  [2, 2],
  [2, 4],
  [2, 6],
  [3, 3],
  [3, 12],
  [4, 8],
  [8, 8],
  [8, 16],
])('a picture of groups of %i devices, %i in all', (ranks, devices) => {
  const plan = planOf(devices, 80, { overhead: GiB / 2, ranks })
  const { elements, picture, texts, rects, tooltips } = draw(plan)
  const rounded = (rx: string) =>
    rects.filter((_, i) => elements.filter(({ name }) => name === 'rect')[i]?.attributes.rx === rx)

  it('shows every rank with its stage’s modules in its frame, without overlapping text', () => {
    expect(tooltips).toEqual(plan.stages.flatMap(({ modules }) => modules))
    for (const box of [...texts, ...rects]) expect(inside(box, picture), box.what).toBe(true)
    for (const [i, text] of texts.entries()) {
      const other = texts.slice(i + 1).find((later) => overlap(text, later))
      expect(other && `${text.what} over ${other.what}`).toBeUndefined()
    }
    const stages = texts.filter(({ what }) => what.startsWith('stage ')).map(({ what }) => what)
    expect(stages).toEqual(plan.stages.map(({ rank }, i) => `stage ${1 + Math.floor(i / ranks)}, rank ${rank}`))
  })

  it('has a frame around each group, in each row that it takes', () => {
    const [frames, cards] = [rounded('16'), rounded('10')]
    expect(cards).toHaveLength(devices)
    const members = frames.map((frame) => cards.filter((card) => inside(card, frame)).length)
    expect(members).toEqual(Array(devices / Math.min(ranks, 4)).fill(Math.min(ranks, 4)))
    for (const [i, frame] of frames.entries()) {
      expect(frames.slice(i + 1).some((other) => overlap(frame, other))).toBe(false)
      expect(texts.some((text) => overlap(frame, text) && !inside(text, frame))).toBe(false)
    }
  })

  it('has an arrow from one group to the next in its row, and none within a group', () => {
    const arrows = elements.filter(({ name }) => name === 'path')
    const rows = new Set(rounded('10').map(({ top }) => top)).size
    expect(arrows).toHaveLength(devices / Math.min(ranks, 4) - rows)
  })
})

test('cells lie in their device’s card, apart from each other', () => {
  const { elements, rects } = draw(planOf(3, 80))
  const cards = rects.filter((_, i) => elements.filter(({ name }) => name === 'rect')[i]?.attributes.rx === '10')
  const cells = rects.filter((_, i) => elements.filter(({ name }) => name === 'rect')[i]?.attributes.rx === '4')
  expect([cards.length, cells.length]).toEqual([3, 83])
  for (const [i, cell] of cells.entries()) {
    expect(cards.filter((card) => inside(cell, card))).toHaveLength(1)
    expect(cells.slice(i + 1).some((other) => overlap(cell, other))).toBe(false)
  }
})

describe('the bar', () => {
  const widths = (plan: ShownPlan) => {
    const bar = draw(plan).elements.filter(({ name, parents }) => name === 'rect' && parents.at(-1) === 'g')
    const widthOf = (fill: string) =>
      bar
        .filter(({ attributes }) => attributes.fill === fill && attributes.height === '20')
        .map(({ attributes }) => Number(attributes.width))
    return {
      weights: widthOf(COLORS.weights),
      kvCache: widthOf(COLORS.kvCache),
      over: widthOf(COLORS.over),
      free: widthOf(COLORS.free),
    }
  }

  it('is in proportion', () => {
    const { weights, kvCache, over, free } = widths(planOf(1, 8))
    const [whole = 0] = free
    expect((weights[0] ?? 0) / whole).toBeCloseTo(0.5 * 0.74)
    expect((kvCache[0] ?? 0) / whole).toBeCloseTo(0.5 * 0.25)
    expect(over).toEqual([])
  })

  it('shows in red what is over the limit, however little', () => {
    expect(widths(planOf(1, 8, { over: 1e-6 })).over[0]).toBeGreaterThanOrEqual(8)
    const { free, over } = widths(planOf(1, 8, { over: 1 }))
    expect(over[0]).toBeCloseTo(free[0] ?? 0)
    expect(draw(planOf(2, 8, { over: 1 })).texts.filter(({ what }) => what === 'over the limit')).toHaveLength(3) // and the legend
  })

  it('is drawn without a limit, and with a limit of 0', () => {
    expect(draw(planOf(2, 8, { budget: null })).texts.map(({ what }) => what)).toContain('8.00 GiB, no limit')
    const [first, ...others] = planOf(2, 8, { over: 1 }).stages
    expect(first).toBeDefined()
    const none = { fits: false, stages: [{ ...(first as NonNullable<typeof first>), budget: 0 }, ...others] }
    expect(planPicture(none, names)).not.toMatch(/NaN|Infinity/)
  })
})

test('a device with several stages has one card with all of them', () => {
  const plan = planOf(4, 80)
  const twice = { ...plan, stages: plan.stages.map((stage, i) => ({ ...stage, device: `cpu:${i % 2}` })) }
  const { texts } = draw(twice)
  expect(texts.filter(({ what }) => /^cpu:\d$/.test(what))).toHaveLength(2)
  expect(texts.filter(({ what }) => /^stage \d$/.test(what)).map(({ what }) => what)).toEqual([
    'stage 1',
    'stage 3',
    'stage 2',
    'stage 4',
  ])
})

test('its description says what it shows and whether that fits', () => {
  const whats = (plan: ShownPlan) => draw(plan).texts.map(({ what }) => what)
  expect(whats(planOf(2, 8))).toEqual(
    expect.arrayContaining([
      names.title,
      `${names.subtitle} · 24.0 GiB of 48.0 GiB`,
      'fits',
      'weights',
      'embed_tokens',
      'norm',
      'lm_head',
      '7',
    ]),
  )
  expect(whats(planOf(2, 8, { over: 0.1 }))).toContain('does not fit')
})

test('texts are escaped, and cut if they are too long', () => {
  const title = `<b>&"'\u0001\ud800 ${'long '.repeat(80)}`
  const { elements, texts, picture } = draw(planOf(2, 4, { prefix: 'cuda:<&>' }), { ...names, title })
  expect(elements.some(({ name }) => name === 'b')).toBe(false)
  expect(elements.find(({ name }) => name === 'title')?.text).toContain(`<b>&"'\ufffd\ufffd long`)
  const shown = texts.find(({ what }) => what.startsWith('<b>'))
  expect(shown?.what).toMatch(/…$/)
  expect(inside(shown as Box, picture)).toBe(true)
  expect(escapeXml('a😀b')).toBe('a😀b')
  expect(fitted('abc', textWidth('abc', 10), 10)).toBe('abc')
  expect(fitted('abcdefgh', textWidth('abcd', 10), 10)).toMatch(/^ab?c?…$/)
})
