export type { InferredDevice } from './budgets'
export {
  type InferModules,
  type InferOptions,
  type InferredDeviceMap,
  type InferStrategy,
  inferDeviceMap,
} from './infer-device-map'
export { type MemorySize, parseMemorySize } from './memory-size'
