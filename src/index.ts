/**
 * billfish: large quantized language models from Node.js, their layers split over the devices at hand.
 * @packageDocumentation
 */
export {
  type AddonFile,
  type CpuDevice,
  type CudaDevice,
  type CudaStatus,
  type Devices,
  type DevicesOptions,
  devices,
  discoverDevices,
  type EmulatedDevice,
  type EmulatorStatus,
} from './devices'
export { BillfishError, type ErrorCode } from './errors'
export type { ChatMessage, ChatTemplateOptions } from './generation/chat-template'
export type { Generation } from './generation/generation'
export type { GenerateInput } from './generation/prompt'
export type {
  FinishReason,
  GenerationChunk,
  GenerationResult,
  GenerationTimings,
  GenerationUsage,
  TokenLogprob,
} from './generation/results'
export type { GenerateOptions } from './generation/sampling-options'
export type { ModelType, SizeOptions } from './limits'
export { type LoadOptions, type LoadProgress, loadModel } from './load'
export type { Activity, DeviceMemory, ForwardOptions, ForwardResult, MemoryUse, Model } from './model'
export { type PadResult, padCheckpoint } from './padding/pad-checkpoint'
export type { PadOptions, PadProgress } from './padding/pad-options'
export type { PaddingVerification } from './padding/verify'
export type { ChromeTrace, ChromeTraceEvent, Trace, TracedStep } from './pipeline/trace'
export {
  type InferModules,
  type InferOptions,
  type InferredDevice,
  type InferredDeviceMap,
  type InferStrategy,
  inferDeviceMap,
  type MemorySize,
  parseMemorySize,
} from './placement'
export type { Strategy } from './placement/accelerate/strategy-map'
export { type DeviceMap, layerSplit } from './placement/device-map'
export type { PlannedStage } from './placement/plan'
export type { DeviceOption, DeviceOptions } from './placement/plan-devices'
export type { ModelPlan, Placement, PlanOptions } from './placement/plan-model'
export { planModel } from './plan'
export type { PaddingPlacement } from './quantization/padding'
export {
  type ApplyChatTemplateOptions,
  type DecodeOptions,
  type EncodeTextOptions,
  type LoadTokenizerOptions,
  loadTokenizer,
  type Tokenizer,
} from './tokenizer'
