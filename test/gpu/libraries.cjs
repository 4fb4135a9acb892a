// Finds what NVIDIA ships in pip wheels (PyTorch brings them along): cuBLAS, NCCL and compute-sanitizer, which a machine with
// nothing but a driver may have nowhere else.
const { execFileSync } = require('node:child_process')
const { existsSync, readdirSync } = require('node:fs')
const { dirname, join } = require('node:path')

/** Directories of Python packages of the python3 in PATH. */
function sitePackages() {
  const program =
    'import site, sys; print("\\n".join([*site.getsitepackages(), site.getusersitepackages(), *sys.path]))'
  try {
    const printed = execFileSync('python3', ['-c', program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return [...new Set(printed.split('\n'))].filter((directory) => directory !== '' && existsSync(directory))
  } catch {
    return []
  }
}

/** Files `nvidia/PACKAGE/SUBDIRECTORY/NAME` below the directories, the newest version of a library first. */
function inWheels(directories, subdirectory, pattern) {
  const found = []
  for (const directory of directories) {
    const packages = join(directory, 'nvidia')
    if (!existsSync(packages)) continue
    for (const name of readdirSync(packages)) {
      const place = join(packages, name, subdirectory)
      if (!existsSync(place)) continue
      for (const file of readdirSync(place)) if (pattern.test(file)) found.push(join(place, file))
    }
  }
  return found.sort().reverse()
}

/**
 * The environment in which processes find these libraries by their names. `BILLFISH_NCCL` would also find one, but has all
 * ranks use it.
 * @param {readonly string[]} directories where to look
 */
function libraryEnvironment(directories = sitePackages()) {
  const files = [/^libcublas\.so\.\d+$/, /^libnccl\.so\.\d+$/].flatMap(
    (name) => inWheels(directories, 'lib', name)[0] ?? [],
  )
  const path = [...new Set(files.map((file) => dirname(file))), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':')
  return path === '' ? {} : { LD_LIBRARY_PATH: path }
}

/** compute-sanitizer in PATH, in a CUDA toolkit or in a wheel; undefined where there is none. */
function computeSanitizer(directories = sitePackages()) {
  const inPath = (process.env.PATH ?? '').split(':').map((directory) => join(directory, 'compute-sanitizer'))
  const toolkits = ['/usr/local/cuda/bin/compute-sanitizer', '/usr/local/cuda/compute-sanitizer/compute-sanitizer']
  const wheels = [
    ...inWheels(directories, 'bin', /^compute-sanitizer$/),
    ...inWheels(directories, 'compute-sanitizer', /^compute-sanitizer$/),
  ]
  return [...inPath, ...toolkits, ...wheels].find((path) => existsSync(path))
}

module.exports = { computeSanitizer, libraryEnvironment, sitePackages }
