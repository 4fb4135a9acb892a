/** The page as a person uses it, in headless Chromium. */
import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { createServer, type RunningServer } from '../../../src/server'
import type { ModelStatus, Status } from '../../../src/server/status'
import { loadDemo } from '../server/app'

const executable = [process.env.CHROMIUM_PATH ?? '', '/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync)
if (executable === undefined) console.log('skipped: there is no Chromium here; CHROMIUM_PATH says where it is')

describe.skipIf(executable === undefined)('the page in Chromium', () => {
  let model: Model
  let server: RunningServer
  let browser: Browser

  beforeAll(async () => {
    model = await loadDemo({ deviceMap: 'balanced', devices: ['cpu:0', 'cpu:1'] })
    server = await createServer({ demo: model }, { port: 0, apiKeys: ['secret'] })
    // The folder of these tests is too long for the path of a socket.
    const env = { ...process.env, TMPDIR: '/tmp' }
    browser = await chromium.launch({ executablePath: executable as string, args: ['--no-sandbox'], env })
  })
  afterAll(async () => {
    await browser.close()
    await server.close()
    await model.dispose()
  })

  /** A page whose complaints and requests to others are collected. */
  async function open(options: Parameters<Browser['newPage']>[0] = {}, status?: Status) {
    const page = await browser.newPage(options)
    const complaints: string[] = []
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (message) => {
      if (message.type() === 'error' && !message.text().includes('401')) complaints.push(message.text())
    })
    page.on('request', (request) => {
      if (!/^data:/.test(request.url()) && !request.url().startsWith(server.url)) complaints.push(request.url())
    })
    if (status) await page.route('**/status.json', (route) => route.fulfill({ json: status }))
    await page.goto(server.url)
    return { page, complaints }
  }

  async function giveKey(page: Page) {
    await page.getByLabel('This server asks for an API key').waitFor()
    await page.keyboard.type('wrong')
    await page.keyboard.press('Enter')
    await page.getByText('The server does not know this key.').waitFor()
    await page.keyboard.press('Control+A')
    await page.keyboard.type('secret')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Placement' }).waitFor()
  }

  test('asks for the key, then shows stages and answers, by keyboard alone', async () => {
    const { page, complaints } = await open()
    await giveKey(page)
    const rows = page.getByRole('row')
    expect(await rows.count()).toBe(3)
    expect(await rows.nth(1).textContent()).toMatch(/cpu:0.*layers 0/)
    while ((await page.evaluate('document.activeElement.id')) !== 'message') await page.keyboard.press('Tab')
    await page.keyboard.type('Hello')
    await page.keyboard.press('Enter')
    await page.getByText(/\d+ tokens, .* tokens\/s/).waitFor()
    const log = page.getByRole('log')
    expect(await log.textContent()).toContain('How can I help you')
    expect(complaints).toEqual([])
    await page.close()
  })

  test('Escape stops an answer', async () => {
    const { page, complaints } = await open()
    await giveKey(page)
    await page.route('**/chat/completions', (route) => {
      const body = JSON.stringify({ ...route.request().postDataJSON(), ignore_eos: true, max_tokens: 900 })
      return route.continue({ postData: body })
    })
    await page.getByLabel('Message').fill('Hello')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Stop' }).waitFor()
    await page.locator('article.assistant').waitFor()
    await page.keyboard.press('Escape')
    await page.getByText('stopped').waitFor()
    await page.getByRole('button', { name: 'Send' }).waitFor()
    expect(complaints).toEqual([])
    await page.close()
  })

  test.each([
    ['light', 1280],
    ['dark', 360],
  ] as const)('eighty layers on eight devices fit (%s, %i pixels)', async (colorScheme, width) => {
    const { page, complaints } = await open({ colorScheme, viewport: { width, height: 900 } }, large())
    await page.getByRole('heading', { name: 'Placement' }).waitFor()
    expect(await page.getByText('66.4 GiB of 80.0 GiB, as planned').count()).toBe(8)
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width) // nothing sticks out
    const [text, ground] = (await page.evaluate(
      '[getComputedStyle(document.querySelector("dd")).color, getComputedStyle(document.querySelector("section")).backgroundColor]',
    )) as [string, string]
    expect(contrast(text, ground)).toBeGreaterThan(7)
    expect(complaints).toEqual([])
    await page.close()
  })
})

/** A server of a large model on eight GPUs. */
function large(): Status {
  const gibibyte = 2 ** 30
  const bytes = { weights: 4.9 * gibibyte, kvCache: 60 * gibibyte, states: 0.4 * gibibyte, buffers: 1.1 * gibibyte }
  const devices = Array.from({ length: 8 }, (_, index) => `cuda:${index}`)
  const model: ModelStatus = {
    names: ['large'],
    architecture: 'Qwen2ForCausalLM',
    quantization: { method: 'gptq', bits: 4 },
    maxModelLength: 131_072,
    maxSequences: 256,
    chats: true,
    stages: devices.map((device, index) => ({
      name: device,
      devices: [device],
      modules: Array.from({ length: 10 }, (_, layer) => `model.layers.${index * 10 + layer}`),
      experts: {},
      busy: 0,
    })),
    memory: devices.map((device) => ({ device, ...bytes, planned: bytes, kvCacheInUse: gibibyte, statesInUse: 0 })),
    waiting: 12,
    running: 201,
    paused: 2,
    stepsInFlight: 8,
    cacheTokens: { total: 1_843_200, inUse: 700_000 },
    preemptions: 3,
    prefixCache: { queries: 100_000, hits: 64_000 },
    tokens: { prompt: 100, generated: 500 },
  }
  return {
    uptime: 98_765,
    devices: devices.map((device) => ({ device, name: 'NVIDIA H100 80GB HBM3', totalBytes: 80 * gibibyte })),
    models: [model],
  }
}

/** WCAG's contrast of two colors, rgb(r, g, b). */
function contrast(...colors: readonly [string, string]): number {
  const luminances = colors.map((color) => {
    const [red = 0, green = 0, blue = 0] = (color.match(/\d+/g) ?? []).map((value) => {
      const share = Number(value) / 255
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  })
  const [dark = 0, light = 0] = luminances.sort((a, b) => a - b)
  return (light + 0.05) / (dark + 0.05)
}
