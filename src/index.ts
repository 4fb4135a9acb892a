/**
 * Everything that `import ... from 'billfish'` gives. Start with {@link loadModel}, {@link Model.generate} and
 * {@link planModel}.
 *
 * Every function that fails rejects or throws with a {@link BillfishError}, whose `code` is stable; an aborted one rejects
 * with the signal's own reason. Options are checked when a function is called: a name that does not exist is
 * `INVALID_OPTION`, and the message tells the right one, also for the names that Hugging Face, vLLM and llama.cpp use.
 * @module billfish
 */
export type { Answer, AnswerEvent, ToolCall } from './chat/answer-events'
export type { ReasoningFormat, ToolFormat } from './chat/formats'

export type { StructuredOutput } from './chat/structured/spec'
export type { RawConfig } from './checkpoint/types'
export { BillfishError, type ErrorCode } from './common/errors'
export {
  type AddonFile,
  type CpuDevice,
  type CudaDevice,
  type CudaLibrary,
  type CudaStatus,
  type Devices,
  type DevicesOptions,
  devices,
  discoverDevices,
  type EmulatedDevice,
  type EmulatorStatus,
} from './devices'
export type { EmbeddingResult, EmbeddingUsage, EmbedOptions } from './embedding/embed'
export type { EmbeddingInput, TokenIds } from './embedding/inputs'
export type { RerankOptions, RerankResult, ScoreOptions } from './embedding/score'
export type { ChatEvent, ChatGeneration, ChatResult, ChatUsage } from './generation/chat-generation'
export type { ChatMessage } from './generation/chat-message'
export type { ChatOptions, ReasoningEffort, Tool, ToolChoice } from './generation/chat-options'
export type { ChatFinishReason } from './generation/chat-reader'
export type { ChatTemplateOptions } from './generation/chat-template'
export type { Generation } from './generation/generation'
export type { GenerationEnd, GenerationObserver } from './generation/observer'
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
export { type DownloadOptions, downloadModel } from './hub/download'
export type { DownloadProgress } from './hub/snapshot'
export { type LoadOptions, type LoadProgress, loadModel } from './load'
export type {
  ForwardOptions,
  ForwardResult,
  LoadedModelLimits,
  Model,
} from './model'
export type { Activity, DeviceMemory, LoadedStage, MemoryUse } from './model-state'
export type { ModuleNames } from './models/architecture'
export { type PadResult, padCheckpoint } from './padding/pad-checkpoint'
export type { PadOptions, PadProgress } from './padding/pad-options'
export type { PaddingVerification } from './padding/verify'
export type { SpeculationOptions } from './pipeline/speculation'
export type { SpeculationCounts } from './pipeline/speculation-counts'
export type { ChromeTrace, ChromeTraceEvent, Trace, TracedStep } from './pipeline/trace'
export type { InferredDevice } from './placement/accelerate/budgets'
export {
  type InferModules,
  type InferOptions,
  type InferredDeviceMap,
  type InferStrategy,
  inferDeviceMap,
} from './placement/accelerate/infer-device-map'
export type { Strategy } from './placement/accelerate/strategy-map'
export { type DeviceMap, layerSplit } from './placement/device-map'
export type { DeviceOverhead } from './placement/device-overhead'
export type { ModelType, SizeOptions } from './placement/limits'
export { type MemorySize, parseMemorySize } from './placement/memory-size'
export type { PlannedStage } from './placement/plan'
export type { DeviceOption, DeviceOptions } from './placement/plan-devices'
export type { ModelPlan } from './placement/plan-model'
export type { Placement, PlanOptions } from './placement/plan-options'
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
