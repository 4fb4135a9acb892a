import { BudgetExhausted, type BudgetLimits } from '../chat/jinja/budget'
import { PythonError, TemplateSyntaxError } from '../chat/jinja/errors'
import { type CompiledTemplate, compileTemplate, renderTemplate } from '../chat/jinja/template'
import { fromTransferable, type Transferable, toTransferable } from '../chat/jinja/values/transfer'
import type { Value } from '../chat/jinja/values/values'
import { bounded } from '../checkpoint/invalid'
import { BillfishError, type ErrorCode } from '../errors'

/** What macros and values may nest: more would be more than the stack that a caller leaves. */
const DEPTH = 150

/**
 * What a template may take while everything else waits: some 5 ms, enough for conversations of a thousand messages; on a
 * busy machine they may be longer by the clock. One that takes more is rendered again on a thread.
 */
export const EVENT_LOOP_LIMITS: BudgetLimits = { steps: 200_000, bytes: 8 << 20, depth: DEPTH, milliseconds: 50 }

/** What a template may take while a checkpoint is loaded. */
export const WARM_UP_LIMITS: BudgetLimits = { steps: 20_000, bytes: 1 << 20, depth: DEPTH, milliseconds: 5 }

/** What a template may take on a thread: conversations of 10,000 messages take a tenth of it. */
export const THREAD_LIMITS: BudgetLimits = { steps: 10_000_000, bytes: 32 << 20, depth: DEPTH, milliseconds: 1000 }

/** What a template may take where a caller waits for the text itself. */
export const WAITING_LIMITS: BudgetLimits = { steps: 2_000_000, bytes: 64 << 20, depth: DEPTH, milliseconds: 300 }

/** A template's text, and where it comes from. */
export interface TemplateSource {
  readonly source: string
  /** The file, for messages. */
  readonly path: string
  /** The code of errors in the template itself. */
  readonly fault: ErrorCode
}

/** A template and its variables, in a form that can be posted to a thread. */
export interface Rendering extends TemplateSource {
  readonly variables: ReadonlyMap<string, Transferable>
  /** Characters of its text, at most. */
  readonly longestText: number
}

/** Characters that a template may write by itself, and how often it may repeat what it is given. */
const OWN_TEXT = 256 * 1024
const REPETITIONS = 16

/** Characters that a template may make of so many: to encode more of them would take longer than rendering may. */
export function maxRenderedLength(given: number): number {
  return OWN_TEXT + REPETITIONS * given
}

/** @throws BillfishError the template's own code if its text is longer */
export function checkRendered(text: string, longest: number, { path, fault }: TemplateSource): string {
  if (text.length <= longest) return text
  const limit = `at most ${longest} are taken: ${OWN_TEXT}, and ${REPETITIONS} for each that it is given`
  throw new BillfishError(
    fault,
    `${path}: the chat template makes ${text.length} characters of this conversation; ${limit}`,
  )
}

/** Templates that have been compiled, each once. */
export class TemplateCache {
  readonly #compiled = new Map<string, CompiledTemplate>()

  /**
   * The text that a template makes of its variables.
   * @throws BillfishError INVALID_OPTION for what the template itself refuses; the template's own code if it cannot
   *   be parsed, or takes more than the limits allow
   */
  render(template: TemplateSource, variables: ReadonlyMap<string, Value>, limits: BudgetLimits): string {
    return withErrorsOf(template, () => this.#render(template, variables, limits))
  }

  /** As {@link render}, but undefined where the limits do not suffice. */
  tryRender(template: TemplateSource, variables: ReadonlyMap<string, Value>, limits: BudgetLimits): string | undefined {
    try {
      return withErrorsOf(template, () => this.#render(template, variables, limits))
    } catch (error) {
      if (error instanceof BillfishError && error.cause instanceof BudgetExhausted) return undefined
      throw error
    }
  }

  #render({ source }: TemplateSource, variables: ReadonlyMap<string, Value>, limits: BudgetLimits): string {
    let compiled = this.#compiled.get(source)
    if (compiled === undefined) {
      compiled = compileTemplate(source, limits)
      this.#compiled.set(source, compiled)
    }
    return renderTemplate(compiled, variables, limits)
  }
}

export function toRendering(
  template: TemplateSource,
  variables: ReadonlyMap<string, Value>,
  longestText = Number.POSITIVE_INFINITY,
): Rendering {
  const posted = [...variables].map(([name, value]) => [name, toTransferable(value)] as const)
  return { ...template, variables: new Map(posted), longestText }
}

/** Renders on the thread that has been given the work. */
export function performRendering({ variables, longestText, ...template }: Rendering, cache: TemplateCache): string {
  const values = new Map([...variables].map(([name, value]) => [name, fromTransferable(value)]))
  return checkRendered(cache.render(template, values, THREAD_LIMITS), longestText, template)
}

/** Runs `work`, and says of its errors whose they are. */
function withErrorsOf<T>({ path, fault }: TemplateSource, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof PythonError) {
      const message = `The chat template in ${path} cannot render these messages: ${bounded(error.message)}`
      throw new BillfishError('INVALID_OPTION', message, { cause: error })
    }
    if (error instanceof TemplateSyntaxError) {
      throw new BillfishError(fault, `${path}: the chat template is malformed: ${bounded(error.message)}`, {
        cause: error,
      })
    }
    if (error instanceof BudgetExhausted) {
      const advice = 'No conversation needs so much: compare the template with the released checkpoint'
      throw new BillfishError(fault, `${path}: the chat template takes ${error.message}. ${advice}`, { cause: error })
    }
    throw error
  }
}
