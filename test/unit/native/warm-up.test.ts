import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type * as templates from '../../../src/chat/jinja/template'
import { loadTextAssets } from '../../../src/generation/assets'
import type * as encoders from '../../../src/generation/library-encoder'
import { BillfishError, loadModel, loadTokenizer } from '../../../src/index'

/** What has run of the way from messages to token ids, in order. */
const ran = vi.hoisted(() => [] as string[])

vi.mock('../../../src/chat/jinja/template', async (original) => {
  const { compileTemplate, renderTemplate } = await original<typeof templates>()
  return {
    compileTemplate: (...given: Parameters<typeof compileTemplate>) => {
      ran.push('compile')
      return compileTemplate(...given)
    },
    renderTemplate: (...given: Parameters<typeof renderTemplate>) => {
      ran.push('render')
      return renderTemplate(...given)
    },
  } satisfies Partial<typeof templates>
})

vi.mock('../../../src/generation/library-encoder', async (original) => {
  const { libraryEncoder } = await original<typeof encoders>()
  return {
    libraryEncoder: async (...given: Parameters<typeof libraryEncoder>) => {
      const encode = await libraryEncoder(...given)
      return (...text: Parameters<typeof encode>) => {
        ran.push('encode')
        return encode(...text)
      }
    },
  } satisfies Partial<typeof encoders>
})

const demo = resolve(__dirname, '../../../examples/demo-model')
const conversation = [{ role: 'user', content: 'What is 17 + 25?' }]

beforeEach(() => {
  ran.length = 0
})

// Code that has never run takes ten times as long: whoever loads a checkpoint pays for that, not the first request.
describe('loading has run what the first request runs', () => {
  it('of a model', async () => {
    const model = await loadModel(demo, { deviceMap: 'cpu', maxModelLength: 128, maxSequences: 1 })
    try {
      expect(ran).toEqual(['encode', 'compile', 'render'])
      ran.length = 0
      await model.generate(conversation, { maxNewTokens: 1 }).result
      expect(ran).toEqual(['render', 'encode'])
    } finally {
      await model.dispose()
    }
  })

  it('of a tokenizer', async () => {
    const tokenizer = await loadTokenizer(demo)
    expect(ran).toEqual(['encode', 'compile', 'render'])
    ran.length = 0
    await tokenizer.applyChatTemplate(conversation)
    expect(ran).toEqual(['render', 'encode'])
    await tokenizer.dispose()
  })

  it('of a tokenizer that encodes on a thread: that has loaded it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'billfish-warm-'))
    afterAll(() => rmSync(directory, { recursive: true }))
    cpSync(join(demo, 'tokenizer_config.json'), join(directory, 'tokenizer_config.json'))
    const json = JSON.parse(readFileSync(join(demo, 'tokenizer.json'), 'utf8'))
    json.normalizer = { type: 'Replace', pattern: { Regex: '(x+)+y' }, content: '' }
    writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify(json))
    const { worker, tokenizer } = await loadTextAssets(directory)
    expect(tokenizer?.encode).toBeUndefined()
    expect(worker.thread).toBeDefined()
    expect(ran).toEqual(['compile', 'render'])
    await worker.close(new BillfishError('DISPOSED', 'the test is over'))
  })
})
