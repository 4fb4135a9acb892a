import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const scripts = join(__dirname, '../../..', 'scripts')

/** Runs `code` with the named exports of a build script, in a process whose PATH is `path` alone. */
function evaluate(script: string, names: string, code: string, path: string): { status: number | null; text: string } {
  const source = `import { ${names} } from ${JSON.stringify(pathToFileURL(join(scripts, script)).href)}\n${code}`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    encoding: 'utf8',
    env: { PATH: path },
  })
  return { status, text: (stdout + stderr).trim() }
}

describe('build scripts', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'billfish-scripts-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const program = (name: string, text: string) => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`)
    chmodSync(join(folder, name), 0o755)
  }

  it('name every missing build tool and the commands that install it', () => {
    const { status, text } = evaluate('requirements.mjs', 'requireBuildTools', 'requireBuildTools()', folder)
    expect(status).toBe(1)
    expect(text).toContain('no C++ compiler was found')
    expect(text).toContain('sudo apt-get install -y g++ cmake ninja-build')
    expect(text).toContain('sudo dnf install -y gcc-c++ cmake ninja-build')
    expect(text).toContain('brew install gcc cmake ninja')
  })

  it('refuse an old CMake and a compiler without C++20, and ask for nothing else', () => {
    program('cmake', 'echo cmake version 3.18.4')
    program('make', 'echo GNU Make 4.3')
    program('c++', '[ "$1" = --version ] && echo g++ 8.5.0')
    const { status, text } = evaluate('requirements.mjs', 'requireBuildTools', 'requireBuildTools()', folder)
    expect(status).toBe(1)
    expect(text).toContain('c++ does not compile C++20 (g++ 8.5.0)')
    expect(text).toContain('CMake is 3.18.4; 3.22 or later is needed')
    expect(text).toContain('sudo apt-get install -y g++ cmake\n')
  })

  /** What CMake says when it configures the project, without an nvidia-smi and with these variables. */
  const configured = (variables: NodeJS.ProcessEnv) => {
    program('nvidia-smi', 'exit 9')
    const env = { ...process.env, ...variables, PATH: `${folder}:${process.env.PATH}` }
    const args = ['-S', join(scripts, '..'), '-B', join(folder, 'build')]
    const { status, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8', env })
    return { status, text: (stdout + stderr).replace(/\s+/g, ' ') }
  }

  it.skipIf(existsSync('/proc/driver/nvidia/gpus') || existsSync('/dev/nvidia0'))(
    'leave CUDA out where no GPU is seen, unless it is asked for',
    () => {
      const { status, text } = configured({ BILLFISH_CUDA: 'auto' })
      expect({ status, text }).toMatchObject({ status: 0 })
      expect(text).toContain('CUDA is left out: no NVIDIA GPU is seen here')
      expect(text).toContain('BILLFISH_CUDA=on compiles it all the same')
      rmSync(join(folder, 'build'), { recursive: true }) // a value stays in force otherwise
      const wanted = configured({ BILLFISH_CUDA: 'on', CUDACXX: join(folder, 'no-nvcc') })
      expect(wanted.text).toContain('BILLFISH_CUDA=on, but no nvcc was found')
    },
  )

  it('refuse a setting other than on and off', () => {
    const { status, text } = configured({ BILLFISH_CUDA: 'off', BILLFISH_EMULATOR: 'perhaps' })
    expect(status).toBe(1)
    expect(text).toContain("BILLFISH_EMULATOR is 'perhaps'; it must be on or off.")
  })

  it('do not pack a build that is missing or older than its sources, and do not publish a clone', () => {
    for (const name of ['prepack.mjs', 'build-ts.mjs', 'licenses.mjs', 'steps.mjs']) {
      cpSync(join(scripts, name), join(folder, 'scripts', name), { preserveTimestamps: true })
    }
    const write = (path: string, seconds: number) => {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), '')
      utimesSync(join(folder, path), seconds, seconds)
    }
    const prepack = (...args: string[]) => {
      const { status, stderr } = spawnSync(process.execPath, [join(folder, 'scripts', 'prepack.mjs'), ...args])
      return { status, text: String(stderr) }
    }
    const now = Date.now() / 1000
    write('src/index.ts', now)
    expect(prepack()).toEqual({ status: 1, text: expect.stringContaining('dist/ is not built. Run: npm run build:ts') })
    for (const name of ['index.js', 'index.mjs', 'index.d.ts']) write(`dist/${name}`, now - 60)
    expect(prepack()).toEqual({ status: 1, text: expect.stringContaining('dist/ is older than its sources') })
    write('dist/index.mjs', now + 60)
    expect(prepack()).toEqual({ status: 1, text: expect.stringContaining('dist/index.d.ts is missing or older') })
    write('dist/index.d.ts', now + 60)
    expect(prepack()).toEqual({ status: 0, text: '' })
    expect(prepack('publish')).toEqual({ status: 1, text: expect.stringContaining('npm run packages') })
  })

  it('compare versions by number', () => {
    const code = `console.log(['20.17.0', '20.9.0', '22.0', '3'].map((version) => atLeast(version, [20, 17])).join())`
    expect(evaluate('requirements.mjs', 'atLeast', code, folder).text).toBe('true,false,true,false')
  })

  it('see the newest file of a tree, and nothing in a missing one', () => {
    const inner = join(folder, 'inner')
    mkdirSync(inner)
    const times: [string, number][] = [
      [join(inner, 'new.cc'), 3000],
      [inner, 2000],
      [folder, 1000],
    ]
    writeFileSync(join(inner, 'new.cc'), '')
    for (const [path, seconds] of times) utimesSync(path, seconds, seconds)
    const paths = JSON.stringify([folder, join(folder, 'missing')])
    expect(evaluate('steps.mjs', 'newest', `console.log(newest(${paths}))`, folder).text).toBe('3000000')
  })
})
