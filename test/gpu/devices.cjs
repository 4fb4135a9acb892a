// Prints the CUDA devices, a line each, or "skipped:" and why there is none.
const { devices } = require('../../dist/index.js')

const { devices: all, cuda } = devices()
const found = all.filter(({ kind }) => kind === 'cuda')
for (const { device, name } of found) console.log(`${device}: ${name}`)
if (found.length === 0) console.log(`skipped: no CUDA device (${cuda.reason})`)
