import type { loadModel } from '../../src/index'

export declare function loadAndRun(load: typeof loadModel): (directory: string) => Promise<void>
