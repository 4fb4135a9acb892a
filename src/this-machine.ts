import { BillfishError } from './common/errors'
import { discoverDevices } from './devices'
import type { Machine } from './placement/available-devices'
import { availableHostMemory } from './placement/host-memory'

/** The machine this process runs on, for placement. */
export const thisMachine: Machine = {
  async gpus() {
    try {
      const { devices, cuda } = await discoverDevices()
      return { devices: devices.filter((device) => device.kind === 'cuda'), reason: cuda.reason }
    } catch (error) {
      // Planning works without the addon; loading reports that it is missing.
      if (error instanceof BillfishError && error.code === 'ADDON_NOT_FOUND')
        return { devices: [], reason: error.message }
      throw error
    }
  },
  hostBytes: () => availableHostMemory(),
}
