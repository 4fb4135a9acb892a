import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const scripts = join(__dirname, '..', '..', 'scripts')

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
      const wanted = configured({ BILLFISH_CUDA: 'on', CUDACXX: join(folder, 'no-nvcc') })
      expect(wanted.text).not.toContain('no NVIDIA GPU is seen')
    },
  )

  it('refuse a setting that is neither on nor off', () => {
    const { status, text } = configured({ BILLFISH_CUDA: 'off', BILLFISH_EMULATOR: 'perhaps' })
    expect(status).toBe(1)
    expect(text).toContain("BILLFISH_EMULATOR is 'perhaps'; it must be on or off.")
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
