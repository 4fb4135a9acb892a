import { BillfishError } from '../../common/errors'
import { type CooperativeTask, runCooperatively } from '../../common/event-loop'
import type { Automaton } from './automaton'
import { AutomatonBuilder } from './automaton-builder'
import { readEbnf } from './ebnf'
import { readAnyJson, readJsonSchema } from './json-schema'
import { regexPart } from './regex'
import type { StructuredOutput } from './spec'

/** A grammar that takes longer is refused. Ordinary ones take a few milliseconds. */
const MAX_MILLISECONDS = 1000

/**
 * Makes a pushdown automaton of the wanted form, in slices that let other events run.
 * @throws BillfishError INVALID_OPTION for what is malformed, not supported, too large, or matches nothing
 */
export async function compileStructuredOutput(spec: StructuredOutput): Promise<Automaton> {
  const [kind] = Object.keys(spec).filter((key) => spec[key as keyof StructuredOutput] !== undefined)
  try {
    return await runCooperatively(limited(compile(spec)))
  } catch (error) {
    if (!(error instanceof BillfishError)) throw error
    throw new BillfishError('INVALID_OPTION', `structuredOutput.${kind}: ${error.message}.`)
  }
}

function* compile({ json, regex, choice, grammar }: StructuredOutput): CooperativeTask<Automaton> {
  const builder = new AutomatonBuilder()
  if (json === true) readAnyJson(builder, 'object')
  else if (json !== undefined) yield* readJsonSchema(builder, json)
  else if (grammar !== undefined) yield* readEbnf(builder, grammar)
  else {
    const root = builder.rule('The answer')
    const write = builder.character.bind(builder)
    const part = choice ? builder.oneOfTexts(choice) : regexPart(builder, regex ?? '', { write, whole: true })
    builder.define(root, part)
  }
  yield
  return builder.finish()
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
