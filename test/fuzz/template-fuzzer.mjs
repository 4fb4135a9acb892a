/**
 * Renders damaged chat templates. Whatever the damage, the result is a text or a BillfishError. No other error is thrown, and
 * no case takes long.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { kindOfRefusal, Outcomes, randomOf, Stopwatch } from './cases.mjs'
import { mutateTemplate } from './template-mutations.mjs'

const REFUSALS = ['INVALID_CHECKPOINT', 'INVALID_OPTION']

/**
 * Templates of all checkpoints in a folder, and of tables of constructs.
 * @param {string} models @param {...string} tables
 * @returns {string[]}
 */
export function templatesOf(models, ...tables) {
  const sources = []
  for (const name of readdirSync(models)) {
    try {
      const config = JSON.parse(readFileSync(join(models, name, 'tokenizer_config.json'), 'utf8'))
      if (typeof config.chat_template === 'string') sources.push(config.chat_template)
    } catch {
      // one without a tokenizer
    }
  }
  for (const table of tables) {
    for (const { template } of JSON.parse(readFileSync(table, 'utf8')).entries) sources.push(template)
  }
  return sources
}

const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'What is 17 + 25?' },
  { role: 'assistant', content: '', tool_calls: [{ function: { name: 'add', arguments: { a: 17, b: 25.0 } } }] },
  { role: 'tool', content: '42' },
  { role: 'user', content: 'Thanks \u{1f600}' },
]
const tools = [{ type: 'function', function: { name: 'add', parameters: { type: 'object', properties: {} } } }]

/**
 * @typedef {import('../../src/generation/chat-template')} ChatTemplateModule
 * @typedef {import('../../src/generation/template-rendering')} TemplateRenderingModule
 * @typedef {import('../../src/generation/chat-message').ChatMessage} ChatMessage
 * @typedef {import('../../src/generation/chat-template').ChatTemplateOptions} ChatTemplateOptions
 * @typedef {(source: string, messages: readonly ChatMessage[], options: ChatTemplateOptions) => string} Render
 */

/**
 * Renders as a generation does: on the event loop, or, if that would block it, as the thread does.
 * @param {Pick<ChatTemplateModule, 'ChatTemplate'> & Pick<TemplateRenderingModule, 'performRendering' | 'TemplateCache'>} modules
 * @returns {Render}
 */
export function renderAsGenerationsDo({ ChatTemplate, performRendering, TemplateCache }) {
  const tokenizer = { specialTokens: { bos: '<s>', eos: '</s>' } }
  return (source, messages, options) => {
    const rendered = new ChatTemplate(new Map([['default', source]]), 'a template', tokenizer).begin(messages, options)
    return typeof rendered === 'string' ? rendered : performRendering(rendered, new TemplateCache())
  }
}

/**
 * @param {object} options
 * @param {readonly string[]} options.sources templates to damage
 * @param {Render} options.render
 * @param {number} options.seed
 * @param {number} [options.first] number of the first case
 * @param {(done: number) => boolean} options.more whether to run another case after `done` cases
 * @returns {Promise<Outcomes>} kinds are `rendered` and those of refusals
 * @throws {Error} that tells how to run the failing case again
 */
export async function fuzzTemplates({ sources, render, seed, first = 0, more }) {
  const outcomes = new Outcomes()
  for (let number = first; more(number - first); number++) {
    const random = randomOf(seed, number)
    const text = mutateTemplate(random.pick(sources), sources, random)
    const options = random.chance(0.5) ? { tools } : {}
    const watch = new Stopwatch()
    try {
      const kind = kindOfRendering(() => render(text, messages, options))
      const milliseconds = watch.read()
      outcomes.add(kind, number, milliseconds)
    } catch (error) {
      const what = `Case ${number} with seed ${seed} failed: ${String(error?.stack ?? error).slice(0, 2000)}`
      throw new Error(`${what}\n${JSON.stringify(text)}`, { cause: error })
    }
    if (number % 1000 === 0) await new Promise(setImmediate)
  }
  return outcomes
}

/** Errors that Python would raise count by their type, since their messages contain arbitrary names. */
function kindOfRendering(render) {
  try {
    render()
    return 'rendered'
  } catch (error) {
    const kind = kindOfRefusal(error, REFUSALS)
    const { name, limit } = error.cause ?? {}
    return name === undefined ? kind : `${error.code} ${name}${limit === undefined ? '' : ` of ${limit}`}`
  }
}
