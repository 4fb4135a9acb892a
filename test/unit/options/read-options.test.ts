import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { BillfishError } from '../../../src/common/errors'
import { readPath } from '../../../src/options/path'
import { optionsOf, readOptions } from '../../../src/options/read-options'
import { onAbort, ownSignal } from '../../../src/options/signal'
import { abortSignal, callback, flag, whole } from '../../../src/options/values'

interface Options {
  readonly deviceMap?: string | Readonly<Record<string, string | number>> | undefined
  readonly maxModelLength?: number | undefined
  readonly dryRun?: boolean | undefined
  readonly list?: readonly (string | { readonly device: string; readonly speed?: number | undefined })[] | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((done: number) => void) | undefined
}

const place = z.union([z.string(), z.number()]).describe('a device')
const entry = optionsOf<Options>('run()', {
  deviceMap: z.union([z.string(), z.record(z.string(), place)]).describe('a map'),
  maxModelLength: whole(1, 100),
  dryRun: flag(),
  list: z
    .array(z.union([z.string(), z.strictObject({ device: z.string(), speed: z.number().optional() })]).describe('this'))
    .describe('an array'),
  signal: abortSignal(),
  onProgress: callback<(done: number) => void>(),
})
optionsOf<{ topK?: number }>('draw()', { topK: whole(0, 9) })

const read = (given: unknown) => readOptions(entry, given)
const refusal = (given: unknown): BillfishError => {
  try {
    read(given)
  } catch (error) {
    if (error instanceof BillfishError && error.code === 'INVALID_OPTION') return error
    throw error
  }
  throw new Error('accepted')
}
const thrower = () => {
  throw new RangeError('not today')
}

describe('readOptions', () => {
  it('reads valid options as plain data, and skips undefined', () => {
    const signal = new AbortController().signal
    const onProgress = () => {}
    const given = { deviceMap: { '': 0 }, maxModelLength: 7, dryRun: undefined, signal, onProgress }
    expect(read(given)).toEqual({ deviceMap: { '': 0 }, maxModelLength: 7, signal, onProgress })
    expect(read(given).signal).toBe(signal)
    expect(read(given).onProgress).toBe(onProgress)
    expect(read(undefined)).toEqual({})
  })

  it('reads objects of any origin: without a prototype, of a class, of another realm, from defaults', () => {
    class Given {
      maxModelLength = 7
      get dryRun() {
        return true
      }
    }
    expect(read(Object.assign(Object.create(null), { maxModelLength: 7 }))).toEqual({ maxModelLength: 7 })
    expect(read(new Given())).toEqual({ maxModelLength: 7, dryRun: true })
    expect(read(runInNewContext('({ maxModelLength: 7, list: ["a"] })'))).toEqual({ maxModelLength: 7, list: ['a'] })
    expect(read(Object.create({ maxModelLength: 7 }))).toEqual({ maxModelLength: 7 })
    expect(read({ maxModelLength: 7, [Symbol('other')]: 1 })).toEqual({ maxModelLength: 7 })
  })

  it('reads every member once, nested ones too', () => {
    let reads = 0
    const speed = () => ++reads
    const given = {
      get maxModelLength() {
        return ++reads
      },
      list: [
        {
          device: 'a',
          get speed() {
            return speed()
          },
        },
      ],
    }
    expect(read(given)).toEqual({ maxModelLength: 1, list: [{ device: 'a', speed: 2 }] })
    expect(reads).toBe(2)
    const map: Record<string, string> = { '': 'cpu' }
    const { deviceMap } = read({ deviceMap: map })
    map[''] = 'cuda:0'
    expect(deviceMap).toEqual({ '': 'cpu' })
  })

  it('turns -0 into 0, and treats __proto__ as a member', () => {
    const map = JSON.parse('{ "__proto__": "cpu", "": -0 }')
    expect(Object.entries(read({ deviceMap: map }).deviceMap as object)).toEqual([
      ['__proto__', 'cpu'],
      ['', 0],
    ])
  })

  it.each<[string, unknown]>([
    ['null', null],
    ['7', 7],
    ['"cpu"', 'cpu'],
    ['true', true],
    ['an array', ['cpu']],
    ['a function', () => {}],
    ['a bigint', 1n],
    ['a symbol', Symbol('options')],
    ['a promise', Promise.resolve({})],
    ['a Map', new Map([['dryRun', true]])],
    ['a Date', new Date()],
    ['a Buffer', Buffer.from('x')],
  ])('refuses %s instead of options', (_, given) => {
    expect(refusal(given).message).toMatch(/^options must be an object, not /)
  })

  it.each<[unknown, string]>([
    [{ deviceMapp: 'cpu' }, 'There is no option deviceMapp of run(); did you mean deviceMap? The options of run() are'],
    [{ deivceMap: 'cpu' }, 'There is no option deivceMap of run(); did you mean deviceMap?'],
    [{ device_map: 'cpu' }, 'There is no option device_map of run(); it is called deviceMap.'],
    [{ DeviceMap: 'cpu' }, 'There is no option DeviceMap of run(); it is called deviceMap.'],
    [{ dryrun: true }, 'There is no option dryrun of run(); it is called dryRun.'],
    [{ max_model_len: 5 }, 'There is no option max_model_len of run(); it is called maxModelLength.'],
    [{ n_ctx: 5 }, 'There is no option n_ctx of run(); it is called maxModelLength.'],
    [{ topK: 5 }, 'There is no option topK of run(); topK is an option of draw().'],
    [{ top_k: 5 }, 'There is no option top_k of run(); topK is an option of draw().'],
    [{ n_gpu_layers: 5 }, 'There is no option n_gpu_layers: each device takes as many layers as it has room for'],
    [{ trust_remote_code: true }, "There is no option trust_remote_code: no code of a checkpoint's is ever run."],
    [{ zebra: 1 }, 'There is no option zebra. The options of run() are deviceMap, maxModelLength, dryRun,'],
    [Object.create({ device_map: 'cpu' }), 'There is no option device_map of run()'],
    [new AbortController().signal, 'There is no option aborted'],
    [{ list: [{ device: 'a', sped: 1 }] }, 'There is no option list[0].sped of list[0]; did you mean speed?'],
  ])('suggests the right option for %j', (given, message) => {
    const refused = refusal(given)
    expect(refused.message.slice(0, message.length)).toBe(message)
    expect(refused.message.length).toBeLessThan(500)
  })

  it.each<[unknown, string]>([
    [{ maxModelLength: '7' }, 'maxModelLength is "7", but must be a whole number from 1 to 100.'],
    [{ maxModelLength: null }, 'maxModelLength is null, but must be a whole number from 1 to 100.'],
    [{ maxModelLength: Number.NaN }, 'maxModelLength is NaN,'],
    [{ maxModelLength: Number.POSITIVE_INFINITY }, 'maxModelLength is Infinity,'],
    [{ maxModelLength: 7n }, 'maxModelLength is 7n,'],
    [{ maxModelLength: -0 }, 'maxModelLength is 0,'],
    [{ maxModelLength: () => 7 }, 'maxModelLength is a function,'],
    [{ maxModelLength: new Number(7) }, 'maxModelLength is an object of class Number,'],
    [{ deviceMap: { a: 'cpu', 'b.c': null } }, 'deviceMap["b.c"] is null, but must be a device.'],
    [{ deviceMap: new Map([['', 'cpu']]) }, 'deviceMap is an object of class Map, but must be a map.'],
    [{ deviceMap: ['cpu'] }, 'deviceMap is ["cpu"], but must be a map.'],
    [{ list: ['a', 3] }, 'list[1] is 3, but must be this.'],
    [{ list: ['a', { device: 'b', speed: '1' }] }, 'list[1] is {"device":"b","speed":"1"}, but must be this.'],
    [{ list: 'a' }, 'list is "a", but must be an array.'],
    [{ signal: new AbortController() }, 'signal is an object of class AbortController, but must be an AbortSignal'],
    [{ signal: { aborted: false } }, 'signal is {"aborted":false}, but must be an AbortSignal'],
    [{ signal: { aborted: false, addEventListener() {} } }, 'signal is {"aborted":false}, but must be an AbortSignal'],
    [{ signal: null }, 'signal is null, but must be an AbortSignal'],
    [{ onProgress: 'log' }, 'onProgress is "log", but must be a function.'],
  ])('says what is wrong with %o', (given, message) => {
    expect(refusal(given).message).toContain(message)
  })

  it('refuses endless values quickly', () => {
    expect(refusal({ list: new Array(1e9) }).message).toBe('list holds more than 1000000 values.')
    expect(refusal(new Array(1e9)).message).toMatch(/^options must be an object, not \[null,null,/)
    expect(refusal({ ['x'.repeat(1e6)]: 1 }).message.length).toBeLessThan(500)
    expect(refusal({ maxModelLength: 'x'.repeat(1e8) }).message.length).toBeLessThan(500)
  })

  it('turns anything that a getter throws into INVALID_OPTION with a cause', () => {
    const proxied = (trap: string) => new Proxy({ maxModelLength: 7 }, { [trap]: thrower })
    const revoked = Proxy.revocable({}, {})
    revoked.revoke()
    const circular: Record<string, unknown> = {}
    circular.self = circular
    const cases: [unknown, RegExp][] = [
      [Object.defineProperty({}, 'maxModelLength', { get: thrower, enumerable: true }), /^maxModelLength could not be/],
      [Object.defineProperty({}, 'maxModelLength', { get: thrower }), /^maxModelLength could not be read: not today/],
      [{ list: [Object.defineProperty({}, 'device', { get: thrower, enumerable: true })] }, /^list could not be read/],
      [proxied('get'), /could not be read: not today/],
      [proxied('ownKeys'), /^options could not be read: not today/],
      [proxied('getOwnPropertyDescriptor'), /^options could not be read/],
      [proxied('getPrototypeOf'), /could not be read/],
      [revoked.proxy, /^options could not be read/],
      [{ deviceMap: revoked.proxy }, /^deviceMap could not be read/],
      [{ signal: Object.defineProperty({}, 'aborted', { get: thrower }) }, /^signal could not be read: not today/],
      [{ deviceMap: circular }, /^deviceMap contains itself/],
    ]
    for (const [given, message] of cases) {
      const refused = refusal(given)
      expect(refused.message).toMatch(message)
      if (/not today/.test(message.source)) expect(refused.cause).toBeInstanceOf(RangeError)
    }
  })
})

describe('AbortSignals', () => {
  it('may be of another realm or a polyfill', () => {
    const listeners: (() => void)[] = []
    const polyfill = {
      aborted: false,
      reason: 'enough',
      addEventListener: (_: string, listener: () => void) => listeners.push(listener),
      removeEventListener: () => listeners.pop(),
    } as unknown as AbortSignal
    const { signal, release } = ownSignal(read({ signal: polyfill }).signal)
    expect(signal.aborted).toBe(false)
    listeners[0]?.()
    expect(signal).toMatchObject({ aborted: true, reason: 'enough' })
    release()
    expect(listeners).toEqual([])
  })

  it('may have aborted, abort later or never', () => {
    const reason = new Error('why')
    expect(ownSignal(AbortSignal.abort(reason)).signal).toMatchObject({ aborted: true, reason })
    const controller = new AbortController()
    const { signal, release } = ownSignal(controller.signal)
    release()
    controller.abort()
    expect(signal.aborted).toBe(false)
    expect(ownSignal(undefined).signal.aborted).toBe(false)
  })

  it('that throw are refused before anything starts', () => {
    const whole = { aborted: false, addEventListener: () => {}, removeEventListener: () => {} }
    for (const half of [{ addEventListener: thrower }, { removeEventListener: thrower }]) {
      expect(() => ownSignal({ ...whole, ...half } as unknown as AbortSignal)).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', message: 'signal could not be read: not today' }),
      )
    }
  })

  it('cannot throw out of their listeners', async () => {
    const warned = new Promise((resolve) => process.once('warning', resolve))
    const controller = new AbortController()
    onAbort(controller.signal, thrower)
    controller.abort()
    expect(await warned).toMatchObject({ message: 'not today' })
    const { signal, release } = ownSignal({
      aborted: true,
      get reason() {
        return thrower()
      },
      addEventListener() {},
      removeEventListener() {},
    } as unknown as AbortSignal)
    expect(signal.reason).toMatchObject({ message: 'not today' })
    expect(release).not.toThrow()
  })
})

describe('readPath', () => {
  it('takes strings and file: URLs', () => {
    expect(readPath('./model', 'directory')).toBe('./model')
    expect(readPath(new URL('file:///a%20b/model'), 'directory')).toBe('/a b/model')
    expect(readPath(runInNewContext('new URL("file:///model")', { URL }), 'directory')).toBe('/model')
  })

  it.each<[unknown, string]>([
    [undefined, 'directory is undefined, but must be a path, as a string or a file: URL.'],
    [null, 'directory is null,'],
    [7, 'directory is 7,'],
    ['', 'directory is an empty string,'],
    ['a\0b', 'directory is "a\\u0000b", but a path has no null character in it.'],
    [Buffer.from('x'), 'directory is an object of class Buffer,'],
    [{}, 'directory is {},'],
    ['file:///model', 'directory is the URL "file:///model" as a string. Give new URL(...) itself, or a path.'],
    [new URL('https://huggingface.co/model'), 'directory is the URL "https://huggingface.co/model", but only file:'],
    [new URL('file:///a%2fb'), 'directory could not be read: '],
  ])('refuses %o', (given, message) => {
    expect(() => readPath(given, 'directory')).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(message) }),
    )
  })
})
