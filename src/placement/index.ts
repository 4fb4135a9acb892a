export type { InferredDevice } from './accelerate/budgets'
export {
  type InferModules,
  type InferOptions,
  type InferredDeviceMap,
  type InferStrategy,
  inferDeviceMap,
} from './accelerate/infer-device-map'
export { type MemorySize, parseMemorySize } from './memory-size'
