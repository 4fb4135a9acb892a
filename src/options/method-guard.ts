import { inspect, types } from 'node:util'
import { BillfishError } from '../common/errors'

type Method = (...args: unknown[]) => unknown

/**
 * Makes all methods and accessors of a class check their `this`. A detached method (`texts.map(tokenizer.encode)`) or one
 * called through a Proxy would otherwise throw the TypeError of a private field, which tells a caller nothing. Call it in a
 * static block of the class.
 * @param type the class
 * @param isOne whether a value is one of the class, `#field in value`
 * @param called what messages call an object of the class: `tokenizer`
 */
export function guardMethods(
  type: { readonly name: string; readonly prototype: object },
  isOne: (value: object) => boolean,
  called: string,
): void {
  const refusal = (key: string | symbol, call: string) => {
    const member = typeof key === 'symbol' ? `[${key.description}]` : `.${key}`
    return new BillfishError(
      'INVALID_STATE',
      `${called}${member}${call} was asked of something else than a ${called}. Keep the object before it, as in ` +
        `(...given) => ${called}${member}(...given), and wrap it in no Proxy.`,
    )
  }
  const checked = (method: Method, key: string | symbol, call: string): Method => {
    const wrapper = function (this: unknown, ...args: unknown[]): unknown {
      if (typeof this === 'object' && this !== null && isOne(this)) return Reflect.apply(method, this, args)
      if (key === inspect.custom) return `[${type.name}]` // console.log() must not throw
      const error = refusal(key, call)
      if (types.isAsyncFunction(method)) return Promise.reject(error)
      throw error
    }
    for (const name of ['name', 'length'] as const) {
      Object.defineProperty(wrapper, name, { value: method[name], configurable: true })
    }
    return wrapper
  }
  for (const key of Reflect.ownKeys(type.prototype)) {
    if (key === 'constructor') continue
    const member = Object.getOwnPropertyDescriptor(type.prototype, key) as PropertyDescriptor
    if (member.get) member.get = checked(member.get, key, '') as () => unknown
    else member.value = checked(member.value as Method, key, '()')
    Object.defineProperty(type.prototype, key, member)
  }
}
