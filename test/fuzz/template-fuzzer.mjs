/**
 * Renders damaged chat templates. Whatever the damage: a text comes out, or a BillfishError; nothing else is thrown, nothing
 * takes long.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Random } from '../support/random.cjs'
import { kindOfRefusal, Outcomes } from './outcomes.mjs'
import { Stopwatch } from './stopwatch.mjs'
import { mutateTemplate } from './template-mutations.mjs'

const REFUSALS = ['INVALID_CHECKPOINT', 'INVALID_OPTION']

/** Templates of all checkpoints in the folder, and of tables of constructs. */
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
 * Renders as a generation does: begun on the event loop, and where that would hold it, done as the thread does it.
 * @param modules.ChatTemplate - as src/generation/chat-template exports it
 * @param modules.performRendering - as src/generation/template-rendering exports it, and TemplateCache, too
 */
export function renderAsGenerationsDo({ ChatTemplate, performRendering, TemplateCache }) {
  const tokenizer = { specialTokens: { bos: '<s>', eos: '</s>' } }
  return (source, messages, options) => {
    const rendered = new ChatTemplate(new Map([['default', source]]), 'a template', tokenizer).begin(messages, options)
    return typeof rendered === 'string' ? rendered : performRendering(rendered, new TemplateCache())
  }
}

/**
 * @param options.sources - templates to damage
 * @param options.render - renders a source with messages and options
 * @param options.seed - with a case's number, makes the case
 * @param options.more - told the number of cases done; cases go on while it says true
 * @returns Outcomes: `rendered`, or a refusal's kind
 * @throws an Error that tells how to run the failing case again
 */
export async function fuzzTemplates({ sources, render, seed, first = 0, more }) {
  const outcomes = new Outcomes()
  for (let number = first; more(number - first); number++) {
    const random = new Random(Math.imul(seed, 0x9e3779b1) ^ number)
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

/** What Python would raise is known by its type: the messages have names of all sorts in them. */
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
