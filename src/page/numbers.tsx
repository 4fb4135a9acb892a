import { formatCount, formatRate } from '../common/format'
import type { ModelStatus, Status } from '../server/status'
import { history, type Rates } from './readings'

interface Props {
  readonly model: ModelStatus
  readonly index: number
  readonly readings: readonly Status[]
  readonly rates: Rates | undefined
}

/** What a model is doing at the moment. */
export function Numbers({ model, index, readings, rates }: Props) {
  const { running, waiting, paused, maxSequences, cacheTokens, preemptions, prefixCache } = model
  const notes = [
    ...(paused > 0 ? [`${formatCount(paused)} paused: nobody reads them`] : []),
    ...(preemptions > 0
      ? [`${formatCount(preemptions)} times, the KV cache was full and a sequence was recomputed`]
      : []),
  ]
  return (
    <section aria-label="Now">
      <dl class="numbers">
        <div class="wide">
          <dt>Generated tokens/s</dt>
          <dd>{rateOf(rates?.generatedTokensPerSecond)}</dd>
          <Sparkline points={history(readings, index)} />
        </div>
        <Figure label="Prompt tokens/s" value={rateOf(rates?.promptTokensPerSecond)} />
        <Figure label="Running" value={formatCount(running)} of={`of ${formatCount(maxSequences)}`} />
        <Figure label="Waiting" value={formatCount(waiting)} />
        <Figure
          label="KV cache"
          value={percent(cacheTokens.inUse / cacheTokens.total)}
          of={`of ${formatCount(cacheTokens.total)} tokens`}
        />
        {prefixCache && (
          <Figure
            label="Prefix cache hits"
            value={prefixCache.queries > 0 ? percent(prefixCache.hits / prefixCache.queries) : NONE}
            of="of prompt tokens"
          />
        )}
      </dl>
      {notes.length > 0 && <p class="muted">{notes.join('. ')}.</p>}
    </section>
  )
}

const NONE = '–'

function Figure({ label, value, of }: { label: string; value: string; of?: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>
        {value} {of && <small>{of}</small>}
      </dd>
    </div>
  )
}

/** The last minute, now at the right. */
function Sparkline({ points }: { points: ReturnType<typeof history> }) {
  const highest = Math.max(1, ...points.map(({ tokensPerSecond }) => tokensPerSecond))
  const path = points.map(({ age, tokensPerSecond }) => `${100 - age * 100},${20 - (tokensPerSecond / highest) * 19}`)
  return (
    <svg class="sparkline" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={path.join(' ')} />
    </svg>
  )
}

function rateOf(perSecond: number | undefined): string {
  if (perSecond === undefined) return NONE
  return perSecond === 0 ? '0' : formatRate(perSecond)
}

/** 0.256 -> "26 %"; what is more than nothing is not 0 %. */
export function percent(share: number): string {
  return share > 0 && share < 0.01 ? '< 1 %' : `${Math.round(share * 100)} %`
}
