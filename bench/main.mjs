/** `npm run bench -- <name> [options]`: runs one benchmark, each a file beside this one with a `run(arguments)`. */
const benchmarks = {
  cpu: './cpu.mjs',
  pipeline: './pipeline.mjs',
  ranks: './ranks.mjs',
  accuracy: './accuracy.mjs',
  pad: './pad.mjs',
  'first-token': './first-token.mjs',
}

const [name, ...rest] = process.argv.slice(2)
if (!Object.hasOwn(benchmarks, name ?? '')) {
  const asked = name === undefined ? 'no benchmark named' : `no benchmark '${name}'`
  console.error(`${asked}; there is: ${Object.keys(benchmarks).join(', ')}\nusage: npm run bench -- cpu [--rounds 5]`)
  process.exit(2)
}
const { run } = await import(benchmarks[name])
await run(rest)
