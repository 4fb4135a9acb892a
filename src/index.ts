/**
 * billfish: large quantised language models from Node.js, their layers split over the devices at hand.
 * @packageDocumentation
 */
export { type CpuDevice, type CudaDevice, type CudaStatus, type Devices, devices } from './devices'
export { BillfishError, type ErrorCode } from './errors'
export type { ChatMessage, ChatTemplateOptions } from './generation/chat-template'
export type {
  FinishReason,
  GenerateInput,
  Generation,
  GenerationChunk,
  GenerationResult,
  GenerationTimings,
  GenerationUsage,
  TokenLogprob,
} from './generation/generation'
export type { GenerateOptions } from './generation/sampling-options'
export { type LoadOptions, type LoadProgress, loadModel, type ModelType } from './load'
export type { DeviceMemory, ForwardOptions, ForwardResult, Model } from './model'
export { type DeviceMap, layerSplit } from './placement/device-map'
