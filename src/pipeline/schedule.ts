/**
 * Composes the next step. Pure functions of the ready sequences: no clocks, no state. test/unit/schedule.test.ts runs
 * them on a simulated pipeline.
 */
import { ceilDiv, roundUp } from '../common/arithmetic'

/** A sequence as the schedule sees it. */
export interface Ready {
  /** Tokens to compute; at least 1. */
  readonly pending: number
  /** All its tokens so far. */
  readonly tokens: { readonly length: number }
  /** Whether it is decoding: one token is pending, and the next depends on its result. */
  readonly decodes: boolean
  /** Tokens to check along with the pending one, as far as there is room; none unless it is decoding. */
  readonly draft: { readonly length: number }
  /** Number of the last step that included it. */
  readonly lastStep: number
  readonly arrival: number
}

/** Rows of a sequence in a batch, those of its draft included. */
export interface BatchEntry<S> {
  readonly sequence: S
  readonly rows: number
}

export interface SchedulePolicy {
  /** Maximum tokens per step. */
  readonly maxBatchTokens: number
  /** Maximum steps in flight: one per independent device. */
  readonly stepsInFlight: number
  /** Rows per step at which compute time equals weight-read time. */
  readonly balancedRows: number
  /** Whether the rows of a prompt must all be in one step. */
  readonly wholePrompts?: boolean | undefined
}

/** Pipeline state besides the ready sequences. */
export interface Traffic {
  /** Decoding sequences, including those with a step in flight. */
  readonly generating: number
  /** Steps that may still be started now, including this one. */
  readonly stepsFree: number
}

/** Fraction of a step that decoding sequences leave to waiting prompts, and long prompts to short ones. */
const RESERVED_SHARE = 1 / 4

/** Prompt chunks are multiples of this: whole KV blocks and kernel tiles. */
const CHUNK_MULTIPLE = 32

/**
 * Rows of a prompt per step, so that it flows through p stages in chunks that keep all of them busy.
 *
 * A stage takes a + b*r for r rows: a to read its weights, b*r to compute, with a = b*balancedRows. A prompt of L
 * tokens in c chunks leaves the last of p stages after (c + p - 1) * (a + b*L/c), which is minimal at c = sqrt((p - 1)
 * * L / balancedRows).
 */
export function prefillChunk(
  length: number,
  { maxBatchTokens, stepsInFlight, balancedRows, wholePrompts }: SchedulePolicy,
): number {
  if (stepsInFlight === 1 || wholePrompts) return maxBatchTokens
  const pieces = Math.max(1, Math.sqrt(((stepsInFlight - 1) * length) / balancedRows))
  return Math.min(maxBatchTokens, roundUp(length / pieces, CHUNK_MULTIPLE))
}

/**
 * The next batch, at most maxBatchTokens tokens.
 *
 * Decoding sequences come first, so that nobody waits for the long prompt of someone else: those that waited longest,
 * and only as many as balance the steps in flight, so that the others remain for the steps that keep the other stages
 * busy. Then prompts in order of arrival, the last one possibly in part; within a quarter of the step a short prompt
 * may overtake a long one. Prompts get a quarter of every step even if more sequences decode than fit. Drafts get rows that
 * the step reads its weights for anyway.
 * @param ready running sequences with pending tokens; decoding ones have no step in flight
 */
export function nextBatch<S extends Ready>(
  ready: readonly S[],
  { generating, stepsFree }: Traffic,
  policy: SchedulePolicy,
): BatchEntry<S>[] {
  const { maxBatchTokens, stepsInFlight } = policy
  const decoders = ready.filter(({ decodes }) => decodes).sort((a, b) => a.lastStep - b.lastStep || byArrival(a, b))
  const prompts = ready.filter(({ decodes }) => !decodes).sort(byArrival)
  const reserved = Math.ceil(maxBatchTokens * RESERVED_SHARE)
  const promptRows = prompts.reduce((sum, { pending }) => sum + pending, 0)

  const decodeRoom = Math.max(1, maxBatchTokens - Math.min(reserved, promptRows))
  const fairPart = Math.min(ceilDiv(generating, stepsInFlight), ceilDiv(decoders.length, stepsFree))
  const batch: BatchEntry<S>[] = decoders
    .slice(0, Math.min(decodeRoom, fairPart))
    .map((sequence) => ({ sequence, rows: 1 }))

  const piece = Math.max(0, ...prompts.map(({ tokens }) => prefillChunk(tokens.length, policy)))
  let room = Math.min(maxBatchTokens - batch.length, piece)
  const isCut = !policy.wholePrompts && prompts[0] && prompts[0].pending > room
  let shortRoom = isCut ? Math.min(reserved, room) : 0
  const early = prompts.filter(({ pending }, i) => {
    if (i === 0 || pending > shortRoom) return false
    shortRoom -= pending
    return true
  })
  for (const sequence of [...early, ...prompts.filter((prompt) => !early.includes(prompt))]) {
    if (room === 0) break
    if (policy.wholePrompts && sequence.pending > room) continue
    const rows = Math.min(sequence.pending, room)
    batch.push({ sequence, rows })
    room -= rows
  }
  return withDrafts(batch, policy)
}

/** Adds the rows of drafts up to where computing takes longer than reading the weights: more would slow down the others. */
function withDrafts<S extends Ready>(
  batch: readonly BatchEntry<S>[],
  { maxBatchTokens, balancedRows }: SchedulePolicy,
): BatchEntry<S>[] {
  let room = batch.reduce((left, { rows }) => left - rows, Math.min(maxBatchTokens, balancedRows))
  return batch.map(({ sequence, rows }) => {
    const added = Math.min(Math.max(room, 0), sequence.draft.length)
    room -= added
    return { sequence, rows: rows + added }
  })
}

function byArrival(a: Ready, b: Ready): number {
  return a.arrival - b.arrival
}
