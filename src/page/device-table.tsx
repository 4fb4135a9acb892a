import { formatBytes, summarizeModules } from '../common/format'
import type { DeviceStatus, ModelStatus } from '../server/status'
import { MemoryBar, memoryLegend, sizeOf } from './memory'
import { percent } from './numbers'
import { type DevicePlacement, placementOf } from './placement'

interface Props {
  readonly model: ModelStatus
  readonly devices: readonly DeviceStatus[]
  readonly busy: ReadonlyMap<string, number> | undefined
}

/** Which layers each device has, what they take there, and how busy it is. */
export function DeviceTable({ model, devices, busy }: Props) {
  const placement = placementOf(model)
  return (
    <section aria-labelledby="placement">
      <h2 id="placement">Placement</h2>
      <p class="muted">{describe(model)}</p>
      <ul class="legend">
        {memoryLegend(model.memory).map(({ use, text }) => (
          <li key={use} class={use}>
            {text}
          </li>
        ))}
      </ul>
      <table>
        <thead>
          <tr>
            <th scope="col">Device</th>
            <th scope="col">Layers</th>
            <th scope="col">Memory</th>
            <th scope="col">Busy</th>
          </tr>
        </thead>
        <tbody>
          {placement.map((placed) => {
            const facts = devices.find(({ device }) => device === placed.device)
            const memory = model.memory.find(({ device }) => device === placed.device)
            return (
              <tr key={placed.device}>
                <th scope="row">
                  {placed.device}
                  {facts?.name && <small>{facts.name}</small>}
                </th>
                <td class="layers">
                  <Strip runs={placed.runs} />
                  <small>{summarizeModules(placed.modules)}</small>
                </td>
                <td class="memory">{memory && <MemoryBar memory={memory} total={facts?.totalBytes ?? null} />}</td>
                <td class="busy">
                  <Busy share={busy?.get(placed.device)} />
                </td>
              </tr>
            )
          })}
        </tbody>
      </table>
    </section>
  )
}

/** Qwen2ForCausalLM, GPTQ 4 bits: 80 layers, 41.2 GiB on 8 devices */
function describe({ architecture, quantization, stages, memory, maxModelLength }: ModelStatus): string {
  const layers = stages.flatMap(({ modules }) => modules).filter((module) => /\.\d+$/.test(module)).length
  const bytes = memory.reduce((sum, device) => sum + sizeOf(device), 0)
  const bits = quantization?.bits ? ` ${quantization.bits} bits` : ''
  return [
    architecture ?? 'Unnamed architecture',
    ...(quantization ? [quantization.method + bits] : []),
    `${layers} layers`,
    `up to ${maxModelLength.toLocaleString('en-US')} tokens a sequence`,
    `${formatBytes(bytes)} on ${memory.length} ${memory.length === 1 ? 'device' : 'devices'}`,
  ].join(', ')
}

/** A device's layers among all layers. */
function Strip({ runs }: Pick<DevicePlacement, 'runs'>) {
  return (
    <div class="strip" aria-hidden="true">
      {runs.map(({ start, length, isExpertsOnly }) => (
        <span
          key={start}
          class={isExpertsOnly ? 'experts' : undefined}
          style={{ left: `${start * 100}%`, width: `${length * 100}%` }}
        />
      ))}
    </div>
  )
}

/** @param share undefined as long as it is not known, or where no stage counts it */
function Busy({ share }: { share: number | undefined }) {
  if (share === undefined) return <span class="muted">–</span>
  return (
    <>
      <span>{percent(share)}</span>
      <div class="bar" aria-hidden="true">
        <span style={{ width: `${share * 100}%` }} />
      </div>
    </>
  )
}
