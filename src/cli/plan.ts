import type { Command } from 'commander'
import { BillfishError } from '../errors'
import type { ModelType } from '../limits'
import type { DeviceMap } from '../placement/device-map'
import { parseMemorySize } from '../placement/memory-size'
import type { PlanDevice } from '../placement/plan'
import { type ModelPlan, type Placement, planModel } from '../placement/plan-model'
import { presets } from '../placement/presets'
import { formatBytes, formatTable, summarizeModules } from './format'
import { wholeNumber } from './options'
import { printJson, type Terminal } from './terminal'

interface Options {
  readonly devices?: string
  readonly deviceMap: string
  readonly dtype?: string
  readonly context?: number
  readonly sequences?: number
  readonly json?: boolean
}

export function addPlanCommand(program: Command, terminal: Terminal): void {
  program
    .command('plan')
    .description('Show which module would go where and the exact bytes of every device; loads nothing')
    .argument('<model>', 'a checkpoint directory, or the name of a well-known release')
    .option('--devices <list>', "devices and their memory: '4x24GiB', or '24GiB,80GiB', or 'cpu:0=8GiB,cpu:1=8GiB'")
    .option('--device-map <map>', "'auto', a device, or a JSON device map", 'auto')
    .option('--dtype <type>', 'auto, float32, float16 or bfloat16')
    .option('--context <tokens>', 'the longest sequence, prompt and answer', wholeNumber)
    .option('--sequences <count>', 'sequences at the same time', wholeNumber)
    .option('--json', 'print JSON, and nothing else, to standard output')
    .addHelpText(
      'after',
      `
Releases known by name:
  ${Object.keys(presets).join('\n  ')}

Examples:
  billfish plan Qwen1.5-72B-Chat-GPTQ-Int4 --devices 4x24GiB --context 8192 --sequences 4
  billfish plan Qwen2-72B-Instruct --devices 3x80GiB
  billfish plan ./Qwen2.5-7B-Instruct-GPTQ-Int4 --devices 8GiB,24GiB --json`,
    )
    .action(async (model: string, options: Options) => {
      const plan = await planModel(model, {
        deviceMap: parseDeviceMap(options.deviceMap),
        devices: options.devices === undefined ? undefined : parseDevices(options.devices),
        dtype: options.dtype as ModelType | undefined,
        maxModelLength: options.context,
        maxSequences: options.sequences,
      })
      if (options.json) printJson(terminal, plan)
      else terminal.stdout.write(describePlan(plan))
    })
}

function parseDeviceMap(text: string): Placement {
  if (!text.startsWith('{')) return text
  try {
    return JSON.parse(text) as DeviceMap
  } catch (cause) {
    throw new BillfishError('INVALID_OPTION', `--device-map is not JSON: ${(cause as Error).message}`, { cause })
  }
}

/** '2x24GiB,80GiB' as cuda:0, cuda:1 and cuda:2; 'cpu:1=8GiB' by name. */
function parseDevices(list: string): PlanDevice[] {
  const devices: PlanDevice[] = []
  for (const part of list.split(',')) {
    const [name, size] = part.includes('=') ? part.split('=') : [undefined, part]
    const [, times = '1', each = ''] = /^(?:(\d{1,3})x)?(.*)$/.exec((size ?? '').trim()) ?? []
    const memory = parseMemorySize(each, `--devices ${part}`)
    for (let i = 0; i < Number(times); i++) devices.push({ device: name?.trim() ?? `cuda:${devices.length}`, memory })
  }
  return devices
}

const barWidth = 24

function describePlan({ stages, fits, explanation }: ModelPlan): string {
  const rows = stages.map(({ device, modules, weights, kvCache, buffers, total, budget }) => [
    device,
    summarizeModules(modules),
    formatBytes(weights),
    formatBytes(kvCache),
    formatBytes(buffers),
    formatBytes(total),
    budget === null ? '' : `${bar(total / budget)} ${((100 * total) / budget).toFixed(0)} %`,
  ])
  const head = ['Device', 'Modules', 'Weights', 'KV cache', 'Buffers', 'Total', 'Memory']
  const verdict = fits ? 'It fits.' : 'It does not fit.'
  return `${formatTable([head, ...rows], 'llrrrrl')}\n${[verdict, ...explanation].join('\n')}\n`
}

function bar(share: number): string {
  const filled = Math.min(barWidth, Math.max(0, Math.round(share * barWidth)))
  return `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}]`
}
