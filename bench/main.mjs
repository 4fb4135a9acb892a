import { Failure, UsageError } from './lib/command-line.mjs'

/** `npm run bench -- <name> [options]`: runs one benchmark, each a file beside this one with a `run(arguments)`. */
const BENCHMARKS = {
  cpu: './cpu.mjs',
  serve: './serve.mjs',
  pipeline: './pipeline.mjs',
  ranks: './ranks.mjs',
  accuracy: './accuracy.mjs',
  pad: './pad.mjs',
  'first-token': './first-token.mjs',
  'prefix-cache': './prefix-cache.mjs',
  'structured-output': './structured-output.mjs',
}

const [name, ...rest] = process.argv.slice(2)
const usage = `usage: npm run bench -- cpu [--rounds 5]\n--help behind a benchmark's name tells its options; there is: ${Object.keys(BENCHMARKS).join(', ')}`
if (name === '--help') {
  console.log(usage)
} else if (!Object.hasOwn(BENCHMARKS, name ?? '')) {
  console.error(`${name === undefined ? 'No benchmark is named' : `There is no benchmark '${name}'`}.\n${usage}`)
  process.exitCode = 2
} else {
  try {
    const { run } = await import(BENCHMARKS[name])
    await run(rest)
  } catch (error) {
    // What is wrong with the command line, or with a model that it names, is nothing of the program's.
    if (!(error instanceof Failure) && error?.name !== 'BillfishError') throw error
    console.error(`${name}: ${error.message}`)
    process.exitCode = error instanceof UsageError ? 2 : 1
  }
}
