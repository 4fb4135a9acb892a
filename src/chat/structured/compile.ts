import { BillfishError } from '../../common/errors'
import { type CooperativeTask, runCooperatively } from '../../common/event-loop'
import type { Automaton } from './automaton'
import { AutomatonBuilder, type Part } from './automaton-builder'
import { readEbnf } from './ebnf'
import { readJsonSchema } from './json-schema'
import { JsonText } from './json-text'
import { regexPart } from './regex'
import type { AnswerForm, StructuredOutput } from './spec'
import { readToolCalls } from './tool-calls'

/** A grammar that takes longer is refused. Ordinary ones take a few milliseconds. */
const MAX_MILLISECONDS = 1000

/**
 * Makes a pushdown automaton of the wanted form, in slices that let other events run.
 * @throws BillfishError INVALID_OPTION for what is malformed, not supported, too large, or matches nothing
 */
export async function compileStructuredOutput(form: AnswerForm): Promise<Automaton> {
  try {
    return await runCooperatively(limited(compile(form)))
  } catch (error) {
    if (!(error instanceof BillfishError)) throw error
    throw new BillfishError('INVALID_OPTION', `${nameOf(form)}: ${error.message}.`)
  }
}

/** The option that a form comes from. */
function nameOf(form: AnswerForm): string {
  if ('calls' in form) return form.text ? 'tools and structuredOutput' : 'tools'
  const [kind] = Object.entries(form).find(([, value]) => value !== undefined) ?? []
  return `structuredOutput.${kind}`
}

function* compile(form: AnswerForm): CooperativeTask<Automaton> {
  const builder = new AutomatonBuilder()
  const root = builder.rule('The answer')
  if ('calls' in form) {
    builder.define(root, yield* readToolCalls(builder, form.calls))
    if (form.text) builder.define(root, yield* readText(builder, form.text))
  } else builder.define(root, yield* readText(builder, form))
  yield
  return builder.finish()
}

function* readText(
  builder: AutomatonBuilder,
  { json, regex, choice, grammar }: StructuredOutput,
): CooperativeTask<Part> {
  if (json === true) return new JsonText(builder).object
  if (json !== undefined) return yield* readJsonSchema(builder, json)
  if (grammar !== undefined) return yield* readEbnf(builder, grammar)
  if (choice) return builder.oneOfTexts(choice)
  return regexPart(builder, regex ?? '', { write: builder.character.bind(builder), whole: true })
}

function* limited<Result>(task: CooperativeTask<Result>): CooperativeTask<Result> {
  for (let spent = 0; ; ) {
    const begun = performance.now()
    const { done, value } = task.next()
    if (done) return value
    spent += performance.now() - begun
    if (spent > MAX_MILLISECONDS) {
      throw new BillfishError('INVALID_OPTION', `it takes more than ${MAX_MILLISECONDS} ms to compile; simplify it`)
    }
    yield
  }
}
