import type { Command } from 'commander'
import type { Checkpoint } from '../checkpoint/types'
import { BillfishError, type ErrorCode } from '../common/errors'
import { counted, formatBytes, formatCount, formatTable, paragraph } from '../common/format'
import { loadChatTemplate } from '../generation/chat-template'
import { readGenerationDefaults } from '../generation/generation-config'
import { findTokenizer } from '../generation/tokenizer'
import type { ModelShape } from '../models/architecture'
import { checkpointWarnings, createModel, storedWeights } from '../models/registry'
import { modulesOf, traceStage } from '../models/stages'
import { textModelConfig } from '../models/text-model-config'
import { describeFormat, listTensors, openCheckpoint, type TensorSummary } from '../open-checkpoint'
import { localCheckpoint } from './checkpoint'
import { abortable, printJson, type Terminal, widthOf } from './terminal'

interface Options {
  readonly tensors?: boolean
  readonly json?: boolean
}

export function addInspectCommand(program: Command, terminal: Terminal): void {
  program
    .command('inspect')
    .description('Show what is in a checkpoint, without loading it')
    .argument('<directory>', 'a checkpoint directory, or a model on the Hugging Face Hub')
    .option('--tensors', 'list every tensor')
    .option('--json', 'print JSON only')
    .addHelpText(
      'after',
      `
Examples:
  billfish inspect ./Qwen2.5-72B-Instruct-GPTQ-Int4
  billfish inspect ./model --tensors | less
  billfish inspect ./model --json | jq .format`,
    )
    .action((directory: string, options: Options) =>
      abortable(terminal, async (signal) => {
        const checkpoint = await openCheckpoint(await localCheckpoint(terminal, directory, options, signal), { signal })
        const summary = await summarize(checkpoint)
        const tensors = options.tensors ? listTensors(checkpoint) : undefined
        if (options.json) {
          printJson(terminal, { ...summary, ...(tensors && { tensors }) })
          return
        }
        const width = widthOf(terminal.stdout)
        terminal.stdout.write(describe({ ...summary, directory }, width))
        if (tensors) terminal.stdout.write(tensorTable(tensors, width))
      }),
    )
}

/** Why a checkpoint that can be opened would not be loaded: what it asks for, or config and tensors that do not fit. */
const LOAD_REFUSALS: readonly ErrorCode[] = ['UNSUPPORTED_MODEL', 'INVALID_CHECKPOINT']

interface Refusal {
  readonly code: ErrorCode
  readonly message: string
}

interface Summary {
  readonly directory: string
  readonly modelType: string | null
  /** What billfish knows of the model; null if it cannot run it, and `unsupported` says why. */
  readonly shape: ModelShape | null
  readonly unsupported: string | null
  readonly format: string
  readonly quantization: Checkpoint['quantization']
  readonly files: number
  readonly bytes: number
  readonly tensorCount: number
  readonly tokenizer: { readonly vocabulary: number; readonly chatTemplate: boolean } | null
  readonly endTokenIds: readonly number[]
  /** Kind of device -> why it would refuse the model when it is loaded, or null; null for a model that cannot be run. */
  readonly devices: Readonly<Record<string, Refusal | null>> | null
  /** What is odd about the files, and what of them is ignored, and why. */
  readonly notices: readonly string[]
}

async function summarize(checkpoint: Checkpoint): Promise<Summary> {
  const { directory, quantization, files, bytes } = checkpoint
  let { config } = checkpoint
  let shape: ModelShape | null = null
  let devices: Summary['devices'] = null
  let notices = checkpoint.notices
  let unsupported: string | null = null
  if (checkpoint.unsupportedFormat !== undefined) {
    unsupported = `its weights are stored as ${checkpoint.unsupportedFormat}`
  }
  try {
    const weights = storedWeights(checkpoint)
    const model = createModel(config, weights)
    shape = model.shape
    notices = checkpointWarnings(checkpoint)
    config = textModelConfig(config).config
    const on = (device: string) => refusalOf(() => traceStage(model, weights, { device, modules: modulesOf(model) }))
    devices = { cpu: on('cpu'), cuda: on('cuda:0') }
  } catch (error) {
    if (!(error instanceof BillfishError) || !LOAD_REFUSALS.includes(error.code)) throw error
    unsupported ??= error.message
  }
  const tokenizer = await findTokenizer(directory)
  const vocabulary = shape?.vocabulary ?? Number.POSITIVE_INFINITY
  const defaults = readGenerationDefaults(checkpoint.generationConfig, config, tokenizer, vocabulary)
  return {
    directory,
    modelType: typeof checkpoint.config.model_type === 'string' ? checkpoint.config.model_type : null,
    shape,
    unsupported,
    format: describeFormat(checkpoint),
    quantization,
    files: files.length,
    bytes,
    tensorCount: checkpoint.tensors.size + checkpoint.unsupportedTensors.size,
    tokenizer: tokenizer
      ? {
          vocabulary: tokenizer.vocabularySize,
          chatTemplate: (await loadChatTemplate(directory, tokenizer)) !== undefined,
        }
      : null,
    endTokenIds: [...defaults.endTokenIds],
    devices: shape && devices,
    notices: [notices, checkpoint.generationConfigFault ?? [], defaults.notices].flat(),
  }
}

/** Why loading would refuse what `body` does. */
function refusalOf(body: () => unknown): Refusal | null {
  try {
    body()
    return null
  } catch (error) {
    if (error instanceof BillfishError) return { code: error.code, message: error.message }
    throw error
  }
}

function describe({ shape, unsupported, tokenizer, devices, ...summary }: Summary, width: number): string {
  const rows = [
    ['Checkpoint', summary.directory],
    ['Model', unsupported === null ? `${summary.modelType}` : `cannot be run: ${unsupported}`],
  ]
  if (shape) {
    rows.push(
      ['', `${counted(shape.layers, 'layer')}, hidden size ${formatCount(shape.hiddenSize)}`],
      [
        '',
        `${counted(shape.kvHeads, 'key/value head')} of ${shape.headDim}, ${formatCount(shape.maxPositions)} positions`,
      ],
      ['', `vocabulary ${formatCount(shape.vocabulary)}`],
    )
  }
  const tokens = tokenizer && `${formatCount(tokenizer.vocabulary)} tokens`
  rows.push(
    ['Format', summary.format],
    ['Size', `${formatBytes(summary.bytes)}, ${summary.tensorCount} tensors in ${counted(summary.files, 'file')}`],
    ['Tokenizer', tokens ? `${tokens}, ${tokenizer?.chatTemplate ? 'with' : 'without'} a chat template` : 'none'],
    ['End tokens', summary.endTokenIds.join(', ') || 'none'],
  )
  if (devices) {
    const refusals = Object.entries(devices).filter(([, refusal]) => refusal !== null)
    const able = Object.keys(devices).filter((device) => devices[device] === null)
    rows.push(['Devices', able.join(', ') || 'none'])
    for (const [device, refusal] of refusals) rows.push(['', `not ${device}: ${refusal?.message}`])
  }
  return [formatTable(rows, 'll', width), ...summary.notices.map((notice) => `\n${paragraph(notice, width)}`)].join('')
}

/** A table a file, since names of files would make lines too long. */
function tensorTable(tensors: readonly TensorSummary[], width: number): string {
  const head = ['Tensor', 'Type', 'Shape', 'Size']
  return [...new Set(tensors.map(({ file }) => file))]
    .map((file) => {
      const own = tensors.filter((tensor) => tensor.file === file)
      const rows = own.map(({ name, dtype, shape, bytes }) => [name, dtype, shape.join(' x '), formatBytes(bytes)])
      return `\n${file}:\n${formatTable([head, ...rows].map(nonBreaking), 'lllr', width)}`
    })
    .join('')
}

/** One line a tensor, for grep. */
function nonBreaking(row: readonly string[]): string[] {
  return row.map((cell) => cell.replaceAll(' ', '\u00a0'))
}
