/** Schemas that several entry points share. A description completes the sentence "topP is 2, but must be ...". */
import { z } from 'zod'
import { isUrl } from './path'
import { isAbortSignal } from './signal'
import { isRecord } from './snapshot'

/** A whole number in a range. */
export function whole(low: number, high: number, description = `a whole number from ${low} to ${high}`) {
  return z.number().int().min(low).max(high).describe(description)
}

export const flag = () => z.boolean().describe('true or false')

export const text = () => z.string().describe('a text')

/** A value that is more than data, and is kept instead of copied. */
export function live<Value>(check: (value: unknown) => value is Value, description: string) {
  return z.custom<Value>(check).meta({ description, live: true })
}

export function isLive(schema: z.ZodType): boolean {
  return schema.meta()?.live === true
}

export const abortSignal = () => live(isAbortSignal, 'an AbortSignal (controller.signal, AbortSignal.timeout(ms))')

/** A function that billfish calls. */
export const callback = <Callback extends (...args: never[]) => unknown>() =>
  live((value): value is Callback => typeof value === 'function', 'a function')

/** A path for readPath(), which reports what is wrong with one. */
export const pathOption = () =>
  live(
    (value): value is string | URL => typeof value === 'string' || isUrl(value),
    'a path, as a string or a file: URL',
  )

/** A plain object with these members and no others; zod alone would also accept built-in objects. */
export function members<Shape extends z.ZodRawShape>(shape: Shape) {
  const object = z.strictObject(shape)
  return z.custom<z.input<typeof object>>(isRecord).pipe(object)
}
