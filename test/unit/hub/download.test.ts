/** `downloadModel()` against a Hub on this machine that breaks, lies and refuses. */
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type DownloadOptions, type DownloadProgress, downloadModel } from '../../../src/index'
import { directoryOf } from '../../support/directories'
import { COMMIT, digestOf, FakeHub, refuse } from '../../support/fake-hub'

const REPO = 'owner/tiny'
const WEIGHTS = randomBytes(1_000_000)
const FILES = {
  'config.json': { model_type: 'qwen2' },
  'tokenizer.json': 'not read here',
  'chat_template.jinja': '{{ messages }}',
  '1_Pooling/config.json': {},
  'model.safetensors': WEIGHTS,
  'pytorch_model.bin': 'pickled',
  'pytorch_model.bin.index.json': {},
  'model-Q4_K_M.gguf': 'GGUF',
  'original/params.json': {},
  'modeling_tiny.py': 'code',
}
const BLOB = digestOf('model.safetensors', WEIGHTS)

let hub: FakeHub
let cache: string
beforeEach(async () => {
  hub = await FakeHub.start(REPO, FILES)
  cache = directoryOf({})
  for (const name of [
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
    'HF_TOKEN_PATH',
    'HF_HUB_OFFLINE',
    'TRANSFORMERS_OFFLINE',
  ]) {
    vi.stubEnv(name, '')
  }
  vi.stubEnv('HF_HOME', directoryOf({}))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await hub.close()
})

const download = (options: DownloadOptions = {}) =>
  downloadModel(REPO, { endpoint: hub.url, cacheDir: cache, ...options })
const folder = () => join(cache, 'models--owner--tiny')
const partial = () => join(folder(), 'blobs', `${BLOB}.incomplete`)
const failure = (message: RegExp | string) => ({ code: 'DOWNLOAD_FAILED', message: expect.stringMatching(message) })

/** toEqual() would compare a million numbers. */
function expectWeights(directory: string): void {
  expect(readFileSync(join(directory, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
}

/** Lays a beginning of the weights there, as an interrupted download leaves it. */
function leavePartial(content: Buffer): void {
  mkdirSync(dirname(partial()), { recursive: true })
  writeFileSync(partial(), content)
}

/** Sends the beginning of the weights and drops the connection. */
function dropAfter(bytes: number) {
  return (request: IncomingMessage, response: ServerResponse) => {
    const from = Number(/\d+/.exec(request.headers.range ?? '0')?.[0])
    const status = from === 0 ? 200 : 206
    response.writeHead(status, {
      'content-length': WEIGHTS.length - from,
      'content-range': `bytes ${from}-${WEIGHTS.length - 1}/${WEIGHTS.length}`,
    })
    response.write(WEIGHTS.subarray(from, from + bytes), () => setTimeout(() => response.destroy(), 20))
    return true
  }
}

describe('downloadModel', () => {
  it("lays what billfish reads into the cache as Python's huggingface_hub does", async () => {
    const directory = await download()
    expect(directory).toBe(join(folder(), 'snapshots', COMMIT))
    const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()
    expect(names).toEqual([
      '1_Pooling',
      '1_Pooling/config.json',
      'chat_template.jinja',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ])
    expect(readlinkSync(join(directory, 'model.safetensors'))).toBe(`../../blobs/${BLOB}`)
    expect(readlinkSync(join(directory, '1_Pooling/config.json'))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/)
    expectWeights(directory)
    expect(readFileSync(join(folder(), 'refs/main'), 'utf8')).toBe(COMMIT)
    expect(readdirSync(join(folder(), 'blobs')).filter((name) => name.includes('.'))).toEqual([])
  })

  it('asks for no file that is there', async () => {
    await download()
    const { length } = hub.served
    await download()
    expect(hub.served.length).toBe(length)
    hub.commit = 'd'.repeat(40)
    await download() // the same files at another commit have the same names in the cache
    expect(hub.served.length).toBe(length)
    expect(readFileSync(join(folder(), 'refs/main'), 'utf8')).toBe('d'.repeat(40))
  })

  it('takes revisions from the option and from the name', async () => {
    await download({ revision: 'refs/pr/1' })
    expect(readFileSync(join(folder(), 'refs/refs/pr/1'), 'utf8')).toBe(COMMIT)
    expect(existsSync(join(folder(), 'refs/main'))).toBe(false)
    await downloadModel(`${REPO}@${COMMIT}`, { endpoint: hub.url, cacheDir: cache })
    expect(hub.requests.filter(({ url }) => url.includes('/revision/')).length).toBe(1)
    await expect(download({ revision: 'v9' })).rejects.toMatchObject(failure(/has no revision v9/))
    await expect(
      downloadModel(`${REPO}@main`, { endpoint: hub.url, revision: 'v9', cacheDir: cache }),
    ).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })

  it('takes the shards that the index names, and no others', async () => {
    hub.files.delete('model.safetensors')
    for (const name of ['a.safetensors', 'b.safetensors', 'consolidated.safetensors'])
      hub.files.set(name, Buffer.from(name))
    const index = { weight_map: { x: 'a.safetensors', y: 'b.safetensors' } }
    hub.files.set('model.safetensors.index.json', Buffer.from(JSON.stringify(index)))
    const names = readdirSync(await download())
    expect(names).toContain('a.safetensors')
    expect(names).toContain('b.safetensors')
    expect(names).not.toContain('consolidated.safetensors')
  })

  it('takes the files that it is told to', async () => {
    const directory = await download({ files: ['*.gguf', 'original/*'] })
    expect(readdirSync(directory)).toEqual(['model-Q4_K_M.gguf', 'original'])
    await expect(download({ files: ['*.onnx'] })).rejects.toMatchObject(failure(/has no file "\*\.onnx"/))
  })

  it('reads a list of several pages', async () => {
    hub.pageSize = 3
    expect(readdirSync(await download())).toContain('model.safetensors')
    hub.onHub = ({ url = '' }, response) => {
      if (url.includes('/tree/')) response.setHeader('link', '<https://elsewhere.example/list>; rel="next"')
      return false
    }
    hub.pageSize = 1000
    await expect(download()).rejects.toMatchObject(failure(/the next page of a list is "https:\/\/elsewhere/))
  })

  it('refuses a model without config.json, or without safetensors files, before it downloads weights', async () => {
    hub.files.delete('model.safetensors')
    await expect(download()).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringMatching(/gguf|bin/),
    })
    hub.files.delete('config.json')
    await expect(download()).rejects.toMatchObject({
      code: 'INVALID_CHECKPOINT',
      message: expect.stringContaining('owner/tiny has no config.json'),
    })
    expect(hub.served.filter((url) => /bin$|gguf$/.test(url))).toEqual([])
  })

  it('reports bytes up to the last one', async () => {
    const seen: DownloadProgress[] = []
    await download({ onProgress: (progress) => void seen.push(progress) })
    const { bytesTotal } = seen[0] as DownloadProgress
    expect(bytesTotal).toBeGreaterThan(WEIGHTS.length)
    expect(seen.every((progress, i) => progress.bytesDone >= (seen[i - 1]?.bytesDone ?? 0))).toBe(true)
    expect(seen.at(-1)).toEqual({ bytesDone: bytesTotal, bytesTotal })
    hub.commit = 'e'.repeat(40)
    hub.files.set('model.safetensors', randomBytes(500_000))
    const stop = new Error('enough')
    await expect(
      download({
        onProgress: () => {
          throw stop
        },
      }),
    ).rejects.toBe(stop)
  })
})

describe('an interrupted download', () => {
  it('goes on where the connection was lost', async () => {
    let drops = 0
    hub.onCdn = (request, response) => (++drops < 3 ? dropAfter(300_000)(request, response) : false)
    const directory = await download()
    expectWeights(directory)
    const ranges = hub.requests.filter(({ server }) => server === 'cdn').map(({ headers }) => headers.range)
    // What was under way when the connection broke may be lost with it.
    const starts = ranges.map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? 'bytes=0-')?.[1]))
    expect(starts).toHaveLength(3)
    expect(starts[0]).toBe(0)
    expect(starts[1]).toBeGreaterThan(0)
    expect(starts[2]).toBeGreaterThan(starts[1] as number)
    expect(starts[2]).toBeLessThanOrEqual(600_000)
  })

  it('goes on with what an earlier process has left', async () => {
    leavePartial(WEIGHTS.subarray(0, 400_000))
    const directory = await download()
    expectWeights(directory)
    expect(hub.requests.find(({ server }) => server === 'cdn')?.headers.range).toBe('bytes=400000-')
  })

  it.each([
    ['holds other bytes', () => randomBytes(400_000)],
    ['is too long', () => randomBytes(WEIGHTS.length + 1)],
    ['is whole, but wrong', () => randomBytes(WEIGHTS.length)],
  ])('starts over where what is left %s', async (_, content) => {
    leavePartial(content())
    expectWeights(await download())
  })

  it('needs no further request where everything is left', async () => {
    leavePartial(WEIGHTS)
    expectWeights(await download())
    expect(hub.requests.filter(({ server }) => server === 'cdn')).toEqual([])
  })

  it.each([
    ['ignores ranges', (response: ServerResponse) => response.writeHead(200).end(WEIGHTS)],
    [
      'sends another range',
      (response: ServerResponse) => response.writeHead(206, { 'content-range': 'bytes 0-9/10' }).end('0123456789'),
    ],
    ['refuses the range', (response: ServerResponse) => response.writeHead(416).end()],
  ])('ends right with a server that %s', async (_, answer) => {
    leavePartial(WEIGHTS.subarray(0, 400_000))
    hub.onCdn = ({ headers }, response) => headers.range !== undefined && Boolean(answer(response))
    expectWeights(await download())
  })

  it('keeps what has come when the signal aborts, and goes on there', async () => {
    const controller = new AbortController()
    hub.onCdn = (_, response) => {
      response.writeHead(200, { 'content-length': WEIGHTS.length })
      response.write(WEIGHTS.subarray(0, 300_000)) // and no more
      return true
    }
    const watch = setInterval(() => {
      if (existsSync(partial()) && lstatSync(partial()).size === 300_000) controller.abort(new Error('stopped'))
    }, 20)
    await expect(download({ signal: controller.signal })).rejects.toThrow('stopped')
    clearInterval(watch)
    expect(lstatSync(partial()).size).toBe(300_000)
    expect(existsSync(join(folder(), 'refs'))).toBe(false)
    hub.onCdn = () => false
    expectWeights(await download())
    expect(hub.requests.at(-1)?.headers.range).toBe('bytes=300000-')
  })

  it('tries again after a silence', async () => {
    vi.stubEnv('HF_HUB_DOWNLOAD_TIMEOUT', '0.2')
    let asked = 0
    hub.onCdn = (_, response) => {
      if (++asked > 1) return false
      response.writeHead(200, { 'content-length': WEIGHTS.length }).write(WEIGHTS.subarray(0, 100_000))
      return true
    }
    expectWeights(await download())
    expect(asked).toBe(2)
  })
})

describe('a busy or broken Hub', () => {
  it('is asked again when it says so', async () => {
    let asked = 0
    const times: number[] = []
    hub.onHub = (_, response) => {
      times.push(Date.now())
      if (++asked > 2) return false
      response.writeHead(asked === 1 ? 429 : 503, { 'retry-after': asked === 1 ? '1' : '0' }).end()
      return true
    }
    await download()
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThanOrEqual(990)
  })

  it('is not waited for any length of time', async () => {
    hub.onHub = (_, response) => Boolean(response.writeHead(429, { 'retry-after': '86400' }).end())
    await expect(download()).rejects.toMatchObject(failure(/answers with status 429\. Try again later/))
  })

  it('that sends other bytes than it has listed is refused', async () => {
    hub.onCdn = (_, response) => Boolean(response.writeHead(200).end(randomBytes(WEIGHTS.length)))
    await expect(download()).rejects.toMatchObject(
      failure(new RegExp(`came twice with other bytes.*should be ${BLOB}`)),
    )
    expect(hub.requests.filter(({ server }) => server === 'cdn').length).toBe(2)
    expect(existsSync(join(folder(), 'blobs', BLOB))).toBe(false)
    expect(existsSync(join(folder(), 'refs'))).toBe(false)
  })

  it.each([
    ['text', (response: ServerResponse) => response.writeHead(200).end('<html>'), /not JSON/],
    [
      'no commit',
      (response: ServerResponse) => response.writeHead(200).end('{"sha":"../../x"}'),
      /the commit of owner\/tiny is "\.\.\/\.\.\/x"/,
    ],
    ['a loop', (response: ServerResponse) => response.writeHead(302, { location: '/again' }).end(), /more than 10/],
    [
      'a strange redirect',
      (response: ServerResponse) => response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
      /not followed/,
    ],
    ['a status', (response: ServerResponse) => response.writeHead(418).end(), /status 418/],
  ])('that answers with %s is refused', async (_, answer, message) => {
    hub.onHub = (__, response) => Boolean(answer(response))
    await expect(download()).rejects.toMatchObject(failure(message))
  })

  it.each([
    [{ path: '..\\evil.json', size: 1, oid: '0'.repeat(40) }, /names a file "\.\.\\\\evil/],
    [{ path: 'C:evil.json', size: 1, oid: '0'.repeat(40) }, /names a file "C:evil/],
    [{ path: 'nul.json', size: 1, oid: '0'.repeat(40) }, /names a file "nul\.json/],
    [{ path: 'a\0b.json', size: 1, oid: '0'.repeat(40) }, /names a file/],
    [{ path: '', size: 1, oid: '0'.repeat(40) }, /the path of a file/],
    [{ path: 'a.json', size: -1, oid: '0'.repeat(40) }, /the size of "a\.json" is -1/],
    [{ path: 'a.json', size: 2 ** 50, oid: '0'.repeat(40) }, /the size of "a\.json"/],
    [{ path: 'a.json', size: 1, oid: '../../../x' }, /the checksum of "a\.json"/],
    [{ path: 'a.json', size: 1, lfs: { oid: '0'.repeat(40) } }, /the checksum of "a\.json"/],
  ])('that lists %j is refused', async (entry, message) => {
    hub.onList = (entries) => [...entries, { type: 'file', ...entry }]
    await expect(download()).rejects.toMatchObject(failure(message))
    expect(existsSync(folder())).toBe(false)
  })

  it.each(['../../evil.json', '/etc/evil.json', 'a/../../../evil.json', './evil.json', 'a//evil.json'])(
    'that lists %s has nothing written there, asked for or not',
    async (path) => {
      hub.onList = (entries) => [
        ...entries,
        { type: 'file', path, size: 0, oid: 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391' },
      ]
      expect(readdirSync(await download())).not.toContain('evil.json')
      await expect(download({ files: ['*evil.json'] })).rejects.toMatchObject(failure(/is not written anywhere/))
    },
  )

  it('that lists more files than any model has is refused', async () => {
    const many = Array.from({ length: 10_001 }, (_, i) => ({
      type: 'file',
      path: `${i}`,
      size: 1,
      oid: '0'.repeat(40),
    }))
    hub.pageSize = 20_000
    hub.onList = () => many
    await expect(download()).rejects.toMatchObject(failure(/more than 10000 files/))
  })
})

describe('access', () => {
  it('is asked for with the token, which the server of large files never sees', async () => {
    vi.stubEnv('HF_TOKEN', ' hf_secret\n')
    await download()
    const tokens = (server: string) =>
      new Set(hub.requests.filter((each) => each.server === server).map(({ headers }) => headers.authorization))
    expect(tokens('hub')).toEqual(new Set(['Bearer hf_secret']))
    expect(tokens('cdn')).toEqual(new Set([undefined]))
  })

  it('takes the token of a login, if nothing else names one', async () => {
    vi.stubEnv('HF_TOKEN_PATH', join(directoryOf({ token: 'hf_stored\n' }), 'token'))
    await download()
    expect(hub.requests[0]?.headers.authorization).toBe('Bearer hf_stored')
    await download({ token: 'hf_given' })
    expect(hub.requests.at(-1)?.headers.authorization).toBe('Bearer hf_given')
  })

  it('refuses a token that no header can carry, without showing it', async () => {
    const error: Error = await download({ token: 'two\nlines' }).then(
      () => new Error('it went through'),
      (reason) => reason,
    )
    expect(error).toMatchObject({ code: 'INVALID_OPTION' })
    expect(error.message).not.toContain('lines')
  })

  it.each([
    [401, 'GatedRepo', /is gated: accept its conditions at .*\/owner\/tiny, and set HF_TOKEN/],
    [403, 'GatedRepo', /is gated/],
    [401, 'RepoNotFound', /There is no model owner\/tiny .*check its name, or set HF_TOKEN/],
    [404, 'RepoNotFound', /There is no model owner\/tiny/],
  ])('that is refused with %d %s tells the way out', async (status, code, message) => {
    hub.onHub = (_, response) => {
      refuse(response, status, code)
      return true
    }
    await expect(download()).rejects.toMatchObject(failure(message))
    expect(hub.requests.length).toBe(1)
  })

  it.each([
    ['http://example.com', /must begin with https/],
    ['ftp://127.0.0.1', /must be a URL/],
    ['https://user:secret@example.com', /no password/],
  ])('is not sought at %s', async (endpoint, message) => {
    await expect(download({ endpoint })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(message),
    })
  })
})

describe('offline', () => {
  it('finds what was downloaded, without a request', async () => {
    const directory = await download()
    const { length } = hub.requests
    expect(await download({ offline: true })).toBe(directory)
    vi.stubEnv('HF_HUB_OFFLINE', '1')
    expect(await download()).toBe(directory)
    expect(await download({ revision: COMMIT })).toBe(directory)
    expect(await download({ files: ['config.json', '1_Pooling/*'] })).toBe(directory)
    expect(hub.requests.length).toBe(length)
  })

  it('says what is missing', async () => {
    await expect(download({ offline: true })).rejects.toMatchObject(
      failure(/owner\/tiny is not in the cache .* at revision main, and .*billfish download owner\/tiny/),
    )
    hub.files.delete('model.safetensors')
    for (const name of ['a.safetensors', 'b.safetensors']) hub.files.set(name, Buffer.from(name))
    hub.files.set(
      'model.safetensors.index.json',
      Buffer.from('{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}'),
    )
    await download({ files: ['*.json', 'a.safetensors'] })
    await expect(download({ offline: true })).rejects.toMatchObject(
      failure(/lacks "b\.safetensors", and the option offline/),
    )
    await expect(download({ offline: true, files: ['c.json'] })).rejects.toMatchObject(failure(/lacks "c\.json"/))
  })

  it('is what a model in the cache falls back to, with a warning, where the Hub cannot be reached', async () => {
    const directory = await download()
    const endpoint = hub.url
    await hub.close()
    const warnings: (Error & { code?: string })[] = []
    const listener = (warning: Error) => warnings.push(warning)
    process.on('warning', listener)
    try {
      expect(await download({ endpoint })).toBe(directory)
      await new Promise((done) => setImmediate(done))
    } finally {
      process.off('warning', listener)
    }
    expect(warnings.find(({ code }) => code === 'BILLFISH_FALLBACK')?.message).toContain(`downloaded to ${directory}`)
    await expect(download({ endpoint, cacheDir: directoryOf({}) })).rejects.toMatchObject(failure(/cannot be reached/))
  }, 30_000)
})

describe('the cache', () => {
  it.each(['models--owner--tiny', '.locks', 'models--owner--tiny/blobs', 'models--owner--tiny/snapshots'])(
    'is not written through a link at %s',
    async (path) => {
      const outside = directoryOf({})
      mkdirSync(dirname(join(cache, path)), { recursive: true })
      symlinkSync(outside, join(cache, path))
      await expect(download()).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('or a link to one: nothing is downloaded through it'),
      })
      expect(readdirSync(outside)).toEqual([])
    },
  )

  it('is not written through a link in place of a file', async () => {
    const outside = directoryOf({ 'important.txt': 'mine' })
    mkdirSync(join(folder(), 'blobs'), { recursive: true })
    symlinkSync(join(outside, 'important.txt'), partial())
    await expect(download()).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/^The Hub's cache cannot be written: ELOOP/),
    })
    expect(readFileSync(join(outside, 'important.txt'), 'utf8')).toBe('mine')
  })

  it('replaces a link in a snapshot that leads nowhere', async () => {
    const file = join(folder(), 'snapshots', COMMIT, 'model.safetensors')
    mkdirSync(dirname(file), { recursive: true })
    symlinkSync('../../blobs/gone', file)
    expectWeights(await download())
  })

  it.runIf(process.getuid?.() !== 0)('that cannot be written is an error of the system', async () => {
    chmodSync(cache, 0o500)
    await expect(download()).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('EACCES'),
    })
  })
})

describe("a model's name", () => {
  it.each([
    'owner',
    'a/b/c',
    '../b',
    'a/..',
    'a--b/c',
    'a/b--c',
    'a/b.git',
    '/a/b',
    'a\\b',
    'a/b@',
    'a/b@../x',
    'a/b@/x',
    'a/b@x.lock',
    'a/b@a//b',
    'https://huggingface.co/a/b',
  ])('is not %s', async (name) => {
    await expect(downloadModel(name, { endpoint: hub.url, cacheDir: cache })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
    expect(hub.requests).toEqual([])
  })
})
