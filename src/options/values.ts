/** Kinds of values that several entry points take. A description ends the sentence "topP is 2, but must be ...". */
import { z } from 'zod'
import { isUrl } from './path'
import { isAbortSignal } from './signal'
import { isRecord } from './snapshot'

/** A whole number of a range. */
export function whole(low: number, high: number, description = `a whole number from ${low} to ${high}`) {
  return z.number().int().min(low).max(high).describe(description)
}

export const flag = () => z.boolean().describe('true or false')

/** A value that is kept as it is, being more than data: it is not copied before it is checked. */
function live<Value>(check: (value: unknown) => value is Value, description: string) {
  return z.custom<Value>(check).meta({ description, live: true })
}

export function isLive(schema: z.ZodType): boolean {
  return schema.meta()?.live === true
}

export const abortSignal = () => live(isAbortSignal, 'an AbortSignal (controller.signal, AbortSignal.timeout(ms))')

/** A function that billfish calls. */
export const callback = <Callback extends (...args: never[]) => unknown>() =>
  live((value): value is Callback => typeof value === 'function', 'a function')

/** What readPath() reads, which also says what is wrong with one. */
export const pathOption = () =>
  live(
    (value): value is string | URL => typeof value === 'string' || isUrl(value),
    'a path, as a string or a file: URL',
  )

/** An object with these members and no others; not, as zod has it, any object without others. */
export function members<Shape extends z.ZodRawShape>(shape: Shape) {
  const object = z.strictObject(shape)
  return z.custom<z.input<typeof object>>(isRecord).pipe(object)
}
