/** Results of benchmarks: statistics, tables, and the files in bench/results. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { repository } from './machine.mjs'

/** Minimum, median and maximum of measurements, and the measurements themselves. @param {number[]} samples */
export function summary(samples) {
  const sorted = [...samples].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  return { min: sorted[0], median, max: sorted.at(-1), samples }
}

/** Rows as a text table; the first row is the heading, columns after the first align right. @param {string[][]} rows */
export function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const line = (row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join('   ')
  return [line(rows[0]), widths.map((width) => '-'.repeat(width)).join('   '), ...rows.slice(1).map(line)].join('\n')
}

/** The machine, the moment and the commit of a result, and how busy other programs were. */
export function circumstances({ machine, busyCores }) {
  const commit = `${machine.commit.slice(0, 10)}${machine.uncommittedChanges ? ' with uncommitted changes' : ''}`
  return [
    `${machine.processor}, ${machine.cores} cores, ${machine.date}, commit ${commit}`,
    `other programs kept ${busyCores.median.toFixed(2)} (at most ${busyCores.max.toFixed(2)}) cores busy`,
  ].join('\n')
}

/** Writes bench/results/<date>-<processor>-<benchmark>.json and prints its path. */
export function writeResult(result) {
  const folder = join(repository, 'bench/results')
  mkdirSync(folder, { recursive: true })
  const processor = result.machine.processor.toLowerCase().replace(/[^a-z0-9]+/g, '-')
  const path = join(folder, `${result.machine.date.slice(0, 10)}-${processor}-${result.benchmark}.json`)
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`\nwritten to ${relative(process.cwd(), path)}`)
}

const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`
const range = ({ min, median, max }) => `${median.toFixed(1)} (${min.toFixed(1)}..${max.toFixed(1)})`
const decimals = (digits) => (value) => value.toFixed(digits)
const percent = (value) => `${(100 * value).toFixed(0)} %`

/** Whether other programs left the machine alone; spinning barriers suffer from any that does not. */
export const wasQuiet = ({ busyCores }) => busyCores.max <= 0.2

/** What the model is, in a line. */
function describeShape({ architecture, format, hidden, layers, intermediate, vocab, experts, chosenExperts }) {
  const mlp = experts === undefined ? `${intermediate}` : `${chosenExperts} of ${experts} experts of ${intermediate}`
  return `${architecture}, ${format}, ${layers} layers of ${hidden}/${mlp}, vocabulary ${vocab}`
}

/** Table and notes for a result as bench/cpu.mjs writes it. */
export function cpuReport(result) {
  const [billfish, llama] = result.programs
  const { readBandwidth, tokens } = result
  // One row: its cells shown by `show`, and billfish's number over llama.cpp's.
  const row = (label, number, show, cell = (program) => show(number(program))) => [
    label,
    ...result.programs.map(cell),
    llama ? `${(number(billfish) / number(llama)).toFixed(2)}x` : '',
  ]
  const speed = (label, method) =>
    row(
      label,
      (program) => program[method].median,
      undefined,
      (program) => range(program[method]),
    )
  const best = (method) => row('  best', (program) => program[method].max, decimals(1))
  const reads = (program) => (program.decode.median * program.bytesPerToken) / 1e9
  const multiplies = (program) => (program.prefill.median * program.weightsPerPromptToken) / 1e9
  const load = ({ loading }) => loading.loadMilliseconds.min
  const copy = ({ loading }) => loading.copyMilliseconds.min
  const peak = ({ memory }) => memory.peakResident
  const fileBytes = ({ loading }) => loading.fileBytes
  const rows = [
    ['', ...result.programs.map(({ name }) => name), llama ? 'ratio' : ''],
    speed(`prefill ${tokens.prefill}, tokens/s`, 'prefill'),
    best('prefill'),
    row('prefill multiply-adds, 10^9/s', multiplies, decimals(0)),
    speed(`decode ${tokens.decode}, tokens/s`, 'decode'),
    best('decode'),
    row('decode reads at, GB/s', reads, decimals(1)),
    row(
      '  of the read bandwidth',
      (program) => program.decodeOfBandwidth.median,
      undefined,
      ({ decodeOfBandwidth: { min, median, max } }) => `${percent(median)} (${percent(min)}..${percent(max)})`,
    ),
    row('  slices of steady bandwidth', ({ decodeOfBandwidth }) => decodeOfBandwidth.steadySlices, decimals(0)),
    row('weights and states a token reads', ({ bytesPerToken }) => bytesPerToken, mebibytes),
    row('weight files', fileBytes, mebibytes),
    row('load (best), ms', load, decimals(0)),
    row('copying the files (best), ms', copy, decimals(0)),
    row('  load over copying', (program) => load(program) / copy(program), decimals(2)),
    row('peak resident after load', ({ loading }) => loading.memoryAfterLoad.peakResident, mebibytes),
    row('peak resident in all', peak, mebibytes),
    row('  over the files', (program) => peak(program) / fileBytes(program), decimals(2)),
    row('event loop p99, generating, ms', ({ eventLoop }) => eventLoop.busy.p99, decimals(2)),
    row('  idle, ms', ({ eventLoop }) => eventLoop.idle.p99, decimals(2)),
  ]
  const lines = [
    circumstances(result),
    `read bandwidth ${range(readBandwidth)} GB/s, measured between slices of decoding`,
    `${describeShape(result.shape)}; dtype ${result.dtype}`,
    `median (least..most) of ${result.rounds} rounds`,
    '',
    table(rows),
  ]
  if (!wasQuiet(result)) lines.push('', 'The machine was not quiet: do not rely on these numbers.')
  if (llama) {
    const { version, settings, overheadMillisecondsPerToken } = llama
    const attention = (method) => `${settings[method].flashAttention ? 'on' : 'off'} for ${method}`
    const { commonGreedyTokens: common } = result
    lines.push(
      '',
      common === undefined
        ? 'the programs compute with different random weights'
        : `greedy tokens in common from the start: ${common} of ${tokens.decode + 1}`,
      `llama.cpp ${version}; flash attention, the faster: ${attention('prefill')}, ${attention('decode')}; ` +
        `${overheadMillisecondsPerToken.toFixed(2)} ms a token outside its native decode call`,
    )
  }
  if (result.ikLlama) lines.push('', ...ikLlamaLines(result.ikLlama, billfish, tokens))
  return lines.join('\n')
}

/** ik_llama.cpp's speeds, and billfish's over them. */
function ikLlamaLines({ version, settings, ...speeds }, billfish, tokens) {
  const line = (method) => {
    const { flashAttention, repack } = settings[method]
    const ratio = (billfish[method].median / speeds[method].median).toFixed(2)
    const how = `flash attention ${flashAttention ? 'on' : 'off'}, repacking ${repack ? 'on' : 'off'}`
    return `  ${method} ${tokens[method]}: ${range(speeds[method])} tokens/s with ${how}; billfish ${ratio}x`
  }
  return [`ik_llama.cpp ${version} by its llama-bench, at its fastest settings:`, line('prefill'), line('decode')]
}
