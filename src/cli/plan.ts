import { basename, resolve } from 'node:path'
import type { Command } from 'commander'
import { counted, formatCount, paragraph } from '../common/format'
import { planPicture } from '../pictures/plan-picture'
import type { ModelPlan } from '../placement/plan-model'
import { presets } from '../placement/presets'
import { planModel } from '../plan'
import { addPlacementOptions, type PlacementCliOptions, placementOptions } from './placement-options'
import { planTable } from './plan-table'
import { printJson, type Terminal, Unsuccessful, widthOf, writeOutput } from './terminal'

interface Options extends PlacementCliOptions {
  readonly json?: boolean
  readonly svg?: string
}

const WIDEST_TEXT = 100 // longer lines are hard to read

export function addPlanCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('plan')
    .description(
      'Show where each module would go and what every device would hold, to the byte, without loading anything. Exits with 1 if the model does not fit',
    )
    .argument('<model>', 'a checkpoint directory, the name of a well-known release, or a model on the Hugging Face Hub')
  addPlacementOptions(command, 'auto')
    .option('--json', 'print JSON only')
    .option('--svg <file>', 'draw the plan')
    .addHelpText(
      'after',
      `
Releases known by name:
  ${Object.keys(presets).join('\n  ')}
Each also with -FP8, -GPTQ-Int4, -GPTQ-Int8 or -AWQ, and without -Instruct or -Chat.
Names that end in a number of channels: as first released, before the MLPs were padded under the same name.

Examples:
  billfish plan Qwen1.5-72B-Chat-GPTQ-Int4 --devices 4x24GiB --context 8192 --sequences 4
  billfish plan Qwen2-72B-Instruct --devices 3x80GiB --svg plan.svg
  billfish plan Qwen-72B-Chat-Int8 --devices 2x40GiB --device-map balanced --context 2048 --sequences 1
  billfish plan Qwen2.5-32B-Instruct --devices 24GiB@1,80GiB@2,cpu=64GiB
  billfish plan Qwen2-72B-Instruct-AWQ-29568 --devices 4x24GiB --tensor-parallel-size 4
  billfish plan ./Qwen2.5-7B-Instruct-GPTQ-Int4 --devices 8GiB,24GiB --json`,
    )
    .action(async (model: string, options: Options) => {
      const plan = await planModel(model, await placementOptions(model, options))
      if (options.svg !== undefined) await writePicture(options.svg, model, plan)
      if (options.json) printJson(terminal, plan)
      else terminal.stdout.write(describePlan(plan, widthOf(terminal.stdout)))
      if (!plan.fits) throw new Unsuccessful() // as the plan says
    })
}

function describePlan(plan: ModelPlan, width: number): string {
  const lines = [...(plan.fits ? ['It fits.'] : []), ...plan.explanation] // which says what does not fit
  const text = lines.map((line) => paragraph(line, Math.min(width, WIDEST_TEXT)))
  return `${planTable(plan, width)}\n${text.join('')}`
}

/** @throws BillfishError INVALID_OPTION for a file that cannot be written */
async function writePicture(file: string, model: string, plan: ModelPlan): Promise<void> {
  const title = basename(resolve(model)) // as a model's directory is named
  const { maxModelLength, maxSequences } = plan.sizes
  const subtitle = [
    maxModelLength && `context ${formatCount(maxModelLength)}`,
    maxSequences && counted(maxSequences, 'sequence'),
  ]
    .filter(Boolean)
    .join(' · ')
  await writeOutput('--svg', file, planPicture(plan, { title, subtitle }))
}
