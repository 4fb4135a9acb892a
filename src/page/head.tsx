import type { Status } from '../server/status'

interface Props {
  readonly status: Status | undefined
  readonly model: number
  readonly problem: unknown
  onModel(index: number): void
}

/** What is served, and whether it answers. */
export function Head({ status, model, onModel, problem }: Props) {
  const models = status?.models ?? []
  return (
    <header>
      <h1>billfish</h1>
      {models.length > 1 ? (
        <select aria-label="Model" value={model} onChange={({ currentTarget }) => onModel(Number(currentTarget.value))}>
          {models.map(({ names }, index) => (
            <option key={names[0]} value={index}>
              {names[0]}
            </option>
          ))}
        </select>
      ) : (
        <span class="model">{models[0]?.names.join(', ')}</span>
      )}
      <a class="skip" href="#chat">
        To the chat
      </a>
      <p class={problem === undefined ? 'state' : 'state problem'} role="status">
        {stateOf(status, problem)}
      </p>
    </header>
  )
}

function stateOf(status: Status | undefined, problem: unknown): string {
  if (problem !== undefined) return `No status: ${(problem as Error).message}`
  return status ? `up ${duration(status.uptime)}` : 'Connecting'
}

/** 59 -> "59 s", 7260 -> "2 h 1 min" */
export function duration(seconds: number): string {
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ]
  if (minutes === 0) return `${Math.floor(seconds)} s`
  if (hours === 0) return `${minutes} min`
  return days === 0 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`
}
