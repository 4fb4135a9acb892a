import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import * as chatTemplate from '../../../src/generation/chat-template'
import * as templateRendering from '../../../src/generation/template-rendering'
import { BillfishError, loadTokenizer } from '../../../src/index'
import { scratchDirectory } from '../../support/directories'

const root = resolve(__dirname, '../../..')
const demo = join(root, 'examples/demo-model')
const SEED = 1
/** Longer than a case may take. */
const HANG_MILLISECONDS = 2500

afterEach(() => {
  vi.restoreAllMocks()
})

/** Lets the clocks say that time has been computed away, without doing so. */
function passTime(milliseconds: number): void {
  const [now, usage] = [performance.now.bind(performance), process.cpuUsage.bind(process)]
  vi.spyOn(performance, 'now').mockImplementation(() => now() + milliseconds)
  vi.spyOn(process, 'cpuUsage').mockImplementation((before) => {
    const { user, system } = usage(before)
    return { user: user + milliseconds * 1000, system }
  })
}

describe('the fuzzer of templates', () => {
  const fuzz = async (cases: number, render?: () => string, check = () => {}) => {
    const { fuzzTemplates, renderAsGenerationsDo, templatesOf } = await import('../../fuzz/template-fuzzer.mjs')
    const tables = ['constructs', 'combinations'].map((name) => join(root, `test/fixtures/jinja/${name}.json`))
    return fuzzTemplates({
      sources: templatesOf(join(root, 'examples'), ...tables),
      render: render ?? renderAsGenerationsDo({ ...chatTemplate, ...templateRendering }),
      seed: SEED,
      more: (done) => {
        check()
        return done < cases
      },
    })
  }

  it('renders or refuses 600 damaged templates, and never fails otherwise', async () => {
    const outcomes = await fuzz(600)
    expect(outcomes.total).toBe(600)
    // All must happen often, or the damage is too heavy or too light to test anything.
    expect(outcomes.of('rendered')).toBeGreaterThan(60)
    expect(outcomes.of('INVALID_CHECKPOINT TemplateSyntaxError')).toBeGreaterThan(60)
    expect(outcomes.of('INVALID_OPTION')).toBeGreaterThan(60)
  })

  it('reports an error that is not a refusal, with the template', async () => {
    const crash = fuzz(600, () => {
      throw new TypeError('Cannot read properties of undefined')
    })
    await expect(crash).rejects.toThrow(/^Case 0 with seed 1 failed: TypeError: Cannot read.*\n"/s)
  })

  it('reports a refusal of another kind', async () => {
    const internal = fuzz(600, () => {
      throw new BillfishError('INTERNAL', 'a fault of the package')
    })
    await expect(internal).rejects.toThrow(/^Case 0 .*a fault of the package/)
  })

  it('reports a hang', async () => {
    let rendered = 0
    const hang = fuzz(600, () => {
      if (++rendered === 3) passTime(HANG_MILLISECONDS)
      return ''
    })
    await expect(hang).rejects.toThrow(/^Case 2 .* it took 25\d\d ms, and computed for 25\d\d/)
  })

  it('ends if memory has grown', async () => {
    const { checkMemory } = await import('../../fuzz/cases.mjs')
    const { maxRSS } = process.resourceUsage()
    const bloat = (mebibytes: number) => {
      const usage = process.resourceUsage()
      vi.spyOn(process, 'resourceUsage').mockReturnValue({ ...usage, maxRSS: maxRSS + mebibytes * 1024 })
      return ''
    }
    const check = () => checkMemory('some cases')
    await expect(fuzz(2, () => bloat(100), check)).resolves.toMatchObject({ total: 2 })
    await expect(fuzz(2, () => bloat(600), check)).rejects.toThrow(/after some cases the process has had \d+ MiB/)
  })
})

describe('the fuzzer of tokenizers', () => {
  const folder = scratchDirectory()

  const fuzz = async (cases: number, { dist = join(root, 'dist'), first = 0, load = loadTokenizer } = {}) => {
    const { fuzzTokenizers } = await import('../../fuzz/tokenizer-fuzzer.mjs')
    const { smallTokenizer } = await import('../../fuzz/tokenizer-mutations.mjs')
    const more = (done: number) => done < cases
    return fuzzTokenizers({ files: smallTokenizer(demo), dist, loadTokenizer: load, seed: SEED, first, more })
  }

  /** The message of a run that fails. The files that it leaves for whoever looks into it are removed. */
  const failureOf = async (run: Promise<unknown>): Promise<string> => {
    const { message } = await run.then(
      () => new Error('the run has not failed'),
      (error: Error) => error,
    )
    const [, left] = /its files are in (\S+?):/.exec(message) ?? []
    if (left !== undefined) rmSync(left, { recursive: true })
    return message
  }

  /** A built package whose tokenizers encode so. */
  const planted = (name: string, encode: string) => {
    const dist = join(folder, name)
    mkdirSync(join(dist, 'generation'), { recursive: true })
    writeFileSync(
      join(dist, 'generation/cpu-time.js'),
      `module.exports = require(${JSON.stringify(join(root, 'dist/generation/cpu-time.js'))})`,
    )
    writeFileSync(
      join(dist, 'generation/tokenizer.js'),
      `const tokenizer = { encode() { ${encode}; return [] }, decode: () => '' }
      exports.findTokenizer = exports.loadTokenizer = async () => tokenizer`,
    )
    return { dist, first: 1 }
  }

  it('encodes with, or refuses, 400 damaged tokenizers, and never fails otherwise', async () => {
    const outcomes = await fuzz(400)
    expect(outcomes.total).toBe(400)
    // All must happen often, or the damage is too heavy or too light to test anything.
    expect(outcomes.of('encoded on the event loop')).toBeGreaterThan(40)
    expect(outcomes.of('encoded on a thread')).toBeGreaterThan(20)
    expect(outcomes.of('INVALID_CHECKPOINT')).toBeGreaterThan(100)
  })

  it('reports an error that is not a refusal, with the damage to the files', async () => {
    const crash = planted('crash', "throw new TypeError('it is not iterable')")
    expect(await failureOf(fuzz(9, crash))).toMatch(/^Case 1 with seed 1 failed.* other parts: TypeError: it is not/s)
  })

  it('reports a thread that ends, even between two cases', async () => {
    const thrown = planted('thrown', "setImmediate(() => { throw new Error('of a timer') })")
    expect(await failureOf(fuzz(9, thrown))).toMatch(/^Case \d .*of a timer/s)
    const exit = planted('exit', 'process.exit(7)')
    expect(await failureOf(fuzz(9, exit))).toMatch(/^Case 1 .*the thread has ended with exit code 7/s)
  })

  it('reports a blocked event loop, and ends a hanging case', async () => {
    // For processor time, which a busy machine does not shorten; asking for it takes some itself.
    const spin = (milliseconds: number) =>
      `const end = process.cpuUsage().user + ${milliseconds * 1000}; let i = 0;
      while (++i % 1e6 !== 0 || process.cpuUsage().user < end);`
    expect(await failureOf(fuzz(9, planted('slow', spin(250))))).toMatch(/the event loop was held for \d+/)
    const outcomes = await fuzz(1, planted('hang', spin(60_000)))
    expect(outcomes.of('ended after 400 ms')).toBe(1)
  })

  it('reports errors and hangs of the package itself', async () => {
    const crash = () => Promise.reject(new RangeError('Invalid array length'))
    expect(await failureOf(fuzz(1, { load: crash }))).toMatch(/^Case 0 .*RangeError: Invalid array length/s)
    const slow = () => {
      passTime(HANG_MILLISECONDS)
      return Promise.reject(new BillfishError('INVALID_CHECKPOINT', 'tokenizer.json takes too long'))
    }
    expect(await failureOf(fuzz(1, { load: slow }))).toMatch(/^Case 0 .*it took 25\d\d ms/s)
  })
})
