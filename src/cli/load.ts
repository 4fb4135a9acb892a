import { Presets, SingleBar } from 'cli-progress'
import { openCheckpoint } from '../checkpoint/checkpoint'
import { BillfishError } from '../errors'
import type { ModelType } from '../limits'
import { type LoadProgress, loadModel } from '../load'
import type { Model } from '../model'
import { createModel } from '../models/registry'
import { type DeviceMap, layerSplit } from '../placement/device-map'
import { formatBytes } from './format'
import type { LoadingOptions } from './options'
import type { Terminal } from './terminal'

/**
 * Reads `--device-map`: a device, `split:cpu:0,cpu:1`, or a JSON object.
 * @throws BillfishError INVALID_OPTION
 */
export async function parseDeviceMap(text: string, directory: string): Promise<DeviceMap> {
  if (text.startsWith('split:')) {
    const devices = text.slice('split:'.length).split(',')
    const checkpoint = await openCheckpoint(directory)
    const { shape, names } = createModel(checkpoint.config, checkpoint)
    return layerSplit(devices, shape.layers, names)
  }
  if (!text.startsWith('{')) return text
  try {
    return JSON.parse(text) as DeviceMap
  } catch (error) {
    throw new BillfishError('INVALID_OPTION', `--device-map is not valid JSON: ${(error as Error).message}`)
  }
}

/** Loads a model as the options say, with a progress bar where standard error is a terminal. */
export async function loadForCommand(
  terminal: Terminal,
  directory: string,
  options: LoadingOptions,
  signal: AbortSignal,
): Promise<Model> {
  const deviceMap = await parseDeviceMap(options.deviceMap, directory)
  return loadWithProgress(terminal, directory, deviceMap, options, signal)
}

export async function loadWithProgress(
  terminal: Terminal,
  directory: string,
  deviceMap: DeviceMap,
  options: Omit<LoadingOptions, 'deviceMap'>,
  signal: AbortSignal,
): Promise<Model> {
  const shown = terminal.stderr.isTTY === true && options.quiet !== true && options.json !== true
  const bar = shown ? progressBar(terminal) : undefined
  try {
    return await loadModel(directory, {
      deviceMap,
      dtype: options.dtype as ModelType,
      maxModelLength: options.maxModelLength,
      signal,
      onProgress: bar?.update,
    })
  } finally {
    bar?.stop()
  }
}

function progressBar({ stderr }: Terminal): { update(progress: LoadProgress): void; stop(): void } {
  const bar = new SingleBar(
    {
      format: 'Loading {bar} {percentage}%  {done} of {all}',
      stream: stderr as NodeJS.WriteStream,
      clearOnComplete: true,
      hideCursor: true,
    },
    Presets.shades_classic,
  )
  let started = false
  return {
    update({ bytesDone, bytesTotal }) {
      const texts = { done: formatBytes(bytesDone), all: formatBytes(bytesTotal) }
      if (!started) bar.start(bytesTotal, bytesDone, texts)
      else bar.update(bytesDone, texts)
      started = true
    },
    stop() {
      if (started) bar.stop()
    },
  }
}
