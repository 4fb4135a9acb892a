// Prints what `billfish bench gemm | attention | tune | model --json` has measured as those commands do for people:
//
//   node test/gpu/summary.cjs results/gemm.json
const { readFileSync } = require('node:fs')
const { attentionText } = require('../../dist/cli/bench-attention.js')
const { gemmText } = require('../../dist/cli/bench-gemm.js')
const { modelText } = require('../../dist/cli/bench-model.js')
const { tuneText } = require('../../dist/cli/bench-tune.js')

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const point = report.results[0]
const text =
  'batchSize' in point ? modelText : 'headDim' in point ? attentionText : 'tiles' in point ? tuneText : gemmText
process.stdout.write(`${text(report)}\n`)
