/** The table of a result as bench/serve.mjs writes it. */
import { circumstances, table } from './report.mjs'

const whole = (value) => value.toFixed(0)
const decimal = (value) => value.toFixed(1)

/** What the clients see: the rows of each program, and billfish's number over the other's. */
const SEEN = [
  ['tokens/s', 'tokensPerSecond', decimal],
  ['first token p50, ms', 'firstTokenP50', whole],
  ['first token p99, ms', 'firstTokenP99', whole],
  ['next token p50, ms', 'nextTokenP50', decimal],
  ['next token p99, ms', 'nextTokenP99', decimal],
]

function workloadName({ loop, clients, rate, prompt, tokens, shared }) {
  const arrivals = loop === 'closed' ? `${clients} clients` : `${rate.toFixed(2)} requests/s`
  return `${prompt}/${tokens}${shared > 0 ? `, ${shared} shared` : ''}, ${arrivals}`
}

export function serveReport(result) {
  const { programs: names, measurements, rounds, seconds } = result
  const rows = [['', ...names, ...(names.length > 1 ? ['ratio'] : [])]]
  for (const { programs, ...workload } of measurements) {
    rows.push([workloadName(workload), ...rows[0].slice(1).map(() => '')])
    for (const [label, key, show] of SEEN) {
      const numbers = programs.map((program) => program[key].median)
      const ratio = numbers.length > 1 ? [`${(numbers[0] / numbers[1]).toFixed(2)}x`] : []
      rows.push([`  ${label}`, ...numbers.map(show), ...ratio])
    }
  }
  const own = [
    ['billfish alone', 'JavaScript', 'ms a token', 'event loop p99, ms'],
    ...measurements.map(({ programs: [billfish], ...workload }) => [
      workloadName(workload),
      `${(100 * billfish.javascriptShare.median).toFixed(1)} %`,
      billfish.javascriptMillisecondsPerToken.median.toFixed(3),
      decimal(billfish.eventLoopLag.median),
    ]),
  ]
  const lines = [
    circumstances(result),
    `medians of ${rounds} rounds of ${seconds} seconds; 0.70x the rate that the slower program bears in the open loops`,
    '',
    table(rows),
    '',
    table(own),
  ]
  if (!result.quiet) lines.push('', 'The machine was not quiet: do not rely on these numbers.')
  return lines.join('\n')
}
