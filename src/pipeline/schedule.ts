/**
 * What the next step computes. Pure functions of what waits: no clocks, no state. test/unit/pipeline/schedule.test.ts runs them
 * on a simulated pipeline.
 */

/** A sequence as the schedule sees it. */
export interface Ready {
  /** Tokens that it waits to compute; 1 or more. */
  readonly pending: number
  /** All tokens that it has so far. */
  readonly tokens: { readonly length: number }
  /** Whether it generates: one token is pending, and the next one follows from it. */
  readonly decodes: boolean
  /** Number of the step that served it last. */
  readonly lastStep: number
  readonly arrival: number
}

/** Rows that a sequence brings to a batch. */
export interface Share<S> {
  readonly sequence: S
  readonly rows: number
}

export interface SchedulePolicy {
  /** Tokens of a step at most. */
  readonly maxBatchTokens: number
  /** Steps that are under way at a time: as many as there are devices that work independently of each other. */
  readonly stepsInFlight: number
  /** Rows of a step at which computing takes a device as long as reading its weights does. */
  readonly balancedRows: number
}

/** What goes on besides what is ready. */
export interface Traffic {
  /** Running sequences that generate, those with a step under way included. */
  readonly generating: number
  /** Steps that may still be started now, this one included. */
  readonly stepsFree: number
}

/** Part of a step's tokens that generating sequences leave to prompts that wait, and long prompts to short ones. */
const RESERVED_SHARE = 1 / 4

/** Prompt pieces are multiples of this: whole KV blocks, whole kernel tiles. */
const PIECE_MULTIPLE = 32

/**
 * Rows of a prompt a step, so that it flows through p stages in pieces, all stages at work on it at once.
 *
 * A stage takes a + b*r for r rows: a to read its weights, b*r to compute, and a = b*balancedRows. L tokens in c pieces
 * leave the last of p stages after (c + p - 1) * (a + b*L/c), which is least for c = sqrt((p - 1) * L / balancedRows).
 */
export function promptPiece(length: number, { maxBatchTokens, stepsInFlight, balancedRows }: SchedulePolicy): number {
  if (stepsInFlight === 1) return maxBatchTokens
  const pieces = Math.max(1, Math.sqrt(((stepsInFlight - 1) * length) / balancedRows))
  return Math.min(maxBatchTokens, Math.ceil(length / pieces / PIECE_MULTIPLE) * PIECE_MULTIPLE)
}

/**
 * The next batch, at most maxBatchTokens tokens.
 *
 * Sequences that generate come first, so that no reader waits for another one's long prompt; those that have waited
 * longest first, and only as many as make the steps alike, so that the others are left for the steps that keep the other
 * stages busy. Then prompts in order of arrival, the last one in part; a short one may go before a
 * long one, within a quarter of the step. Prompts have a quarter of every step even when more sequences generate than a
 * step has room for.
 * @param ready running sequences with pending tokens, and, if they generate, no step under way
 */
export function nextBatch<S extends Ready>(
  ready: readonly S[],
  { generating, stepsFree }: Traffic,
  policy: SchedulePolicy,
): Share<S>[] {
  const { maxBatchTokens, stepsInFlight } = policy
  const decoders = ready.filter(({ decodes }) => decodes).sort((a, b) => a.lastStep - b.lastStep || byArrival(a, b))
  const prompts = ready.filter(({ decodes }) => !decodes).sort(byArrival)
  const reserved = Math.ceil(maxBatchTokens * RESERVED_SHARE)
  const promptRows = prompts.reduce((sum, { pending }) => sum + pending, 0)

  const decodeRoom = Math.max(1, maxBatchTokens - Math.min(reserved, promptRows))
  const fairPart = Math.min(Math.ceil(generating / stepsInFlight), Math.ceil(decoders.length / stepsFree))
  const batch: Share<S>[] = decoders.slice(0, Math.min(decodeRoom, fairPart)).map((sequence) => ({ sequence, rows: 1 }))

  const piece = Math.max(0, ...prompts.map(({ tokens }) => promptPiece(tokens.length, policy)))
  let room = Math.min(maxBatchTokens - batch.length, piece)
  let shortRoom = prompts[0] && prompts[0].pending > room ? Math.min(reserved, room) : 0
  const early = prompts.filter(({ pending }, i) => {
    if (i === 0 || pending > shortRoom) return false
    shortRoom -= pending
    return true
  })
  for (const sequence of [...early, ...prompts.filter((prompt) => !early.includes(prompt))]) {
    if (room === 0) break
    const rows = Math.min(sequence.pending, room)
    batch.push({ sequence, rows })
    room -= rows
  }
  return batch
}

function byArrival(a: Ready, b: Ready): number {
  return a.arrival - b.arrival
}
