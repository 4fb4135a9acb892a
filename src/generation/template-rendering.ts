import { BudgetExhausted, type BudgetLimits } from '../chat/jinja/budget'
import { PythonError, TemplateSyntaxError } from '../chat/jinja/errors'
import { type CompiledTemplate, compileTemplate, renderTemplate } from '../chat/jinja/template'
import { fromTransferable, type Transferable, toTransferable } from '../chat/jinja/values/transfer'
import type { Value } from '../chat/jinja/values/values'
import { truncate } from '../checkpoint/invalid'
import { BillfishError, type ErrorCode } from '../common/errors'
import { cutAtMark } from './final-message'

/** Maximum nesting of macros and values: deeper ones would exceed the stack that a caller leaves. */
const DEPTH = 150

/**
 * Limits on the event loop: about 5 ms, enough for conversations of a thousand messages, or longer by the clock on a
 * busy machine. Templates that exceed them are rendered again on a thread.
 */
export const EVENT_LOOP_LIMITS: BudgetLimits = { steps: 200_000, bytes: 8 << 20, depth: DEPTH, milliseconds: 50 }

/** Limits while a checkpoint is loaded. */
export const WARM_UP_LIMITS: BudgetLimits = { steps: 20_000, bytes: 1 << 20, depth: DEPTH, milliseconds: 5 }

/** Limits on a thread: conversations of 10,000 messages use a tenth. */
export const THREAD_LIMITS: BudgetLimits = { steps: 10_000_000, bytes: 32 << 20, depth: DEPTH, milliseconds: 1000 }

/** Limits of synchronous rendering. */
export const SYNCHRONOUS_LIMITS: BudgetLimits = { steps: 2_000_000, bytes: 64 << 20, depth: DEPTH, milliseconds: 300 }

/** A template and its origin. */
export interface TemplateSource {
  readonly source: string
  /** File, for error messages. */
  readonly path: string
  /** Error code for errors in the template itself. */
  readonly fault: ErrorCode
}

/** A template and its variables, in a form that can be posted to a thread. */
export interface Rendering extends TemplateSource {
  readonly variables: ReadonlyMap<string, Transferable>
  /** Maximum length of the rendered text, in characters. */
  readonly longestText: number
  /** The text of the message to be continued, if there is one: see cutAtMark(). */
  readonly continued?: string | undefined
}

/** Output allowance of a template: fixed, and per input character. */
const BASE_ALLOWANCE = 256 * 1024
const ALLOWANCE_PER_CHARACTER = 16

/** Maximum output characters for so many input characters: encoding more would take longer than rendering may. */
export function maxRenderedLength(given: number): number {
  return BASE_ALLOWANCE + ALLOWANCE_PER_CHARACTER * given
}

/** @throws BillfishError the error code of the template if its text is longer */
export function checkRendered(text: string, longest: number, { path, fault }: TemplateSource): string {
  if (text.length <= longest) return text
  const limit = `the limit is ${longest}: ${BASE_ALLOWANCE} plus ${ALLOWANCE_PER_CHARACTER} per input character`
  throw new BillfishError(
    fault,
    `${path}: the chat template renders this conversation to ${text.length} characters; ${limit}`,
  )
}

/** Cache of compiled templates. */
export class TemplateCache {
  readonly #compiled = new Map<string, CompiledTemplate>()

  /**
   * Renders a template.
   * @throws BillfishError INVALID_OPTION for errors raised by the template; the error code of the template if it cannot
   *   be parsed or exceeds the limits
   */
  render(template: TemplateSource, variables: ReadonlyMap<string, Value>, limits: BudgetLimits): string {
    return withErrorsOf(template, () => this.#render(template, variables, limits))
  }

  /** Like {@link render}, but returns undefined if the limits do not suffice. */
  tryRender(template: TemplateSource, variables: ReadonlyMap<string, Value>, limits: BudgetLimits): string | undefined {
    try {
      return withErrorsOf(template, () => this.#render(template, variables, limits))
    } catch (error) {
      if (error instanceof BillfishError && error.cause instanceof BudgetExhausted) return undefined
      throw error
    }
  }

  /** Reads a template before it is used. @throws BillfishError like {@link render}, if it cannot be parsed */
  check(template: TemplateSource, limits: BudgetLimits): void {
    withErrorsOf(template, () => this.#compiledOf(template, limits))
  }

  #render(template: TemplateSource, variables: ReadonlyMap<string, Value>, limits: BudgetLimits): string {
    return renderTemplate(this.#compiledOf(template, limits), variables, limits)
  }

  #compiledOf({ source }: TemplateSource, limits: BudgetLimits): CompiledTemplate {
    const known = this.#compiled.get(source)
    if (known !== undefined) return known
    const compiled = compileTemplate(source, limits)
    this.#compiled.set(source, compiled)
    return compiled
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

/** Renders on the worker thread. */
export function performRendering(
  { variables, longestText, continued, ...template }: Rendering,
  cache: TemplateCache,
): string {
  const values = new Map([...variables].map(([name, value]) => [name, fromTransferable(value)]))
  const text = checkRendered(cache.render(template, values, THREAD_LIMITS), longestText, template)
  return continued === undefined ? text : cutAtMark(text, continued)
}

/** Runs `work` and attributes its errors. */
function withErrorsOf<T>({ path, fault }: TemplateSource, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof PythonError) {
      const message = `The chat template in ${path} cannot render these messages: ${truncate(error.message)}`
      throw new BillfishError('INVALID_OPTION', message, { cause: error })
    }
    if (error instanceof TemplateSyntaxError) {
      throw new BillfishError(fault, `${path}: the chat template is malformed: ${truncate(error.message)}`, {
        cause: error,
      })
    }
    if (error instanceof BudgetExhausted) {
      const advice = 'No conversation needs this much: compare the template with the released checkpoint'
      throw new BillfishError(fault, `${path}: the chat template takes ${error.message}. ${advice}`, { cause: error })
    }
    throw error
  }
}
