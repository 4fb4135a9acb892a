// A launch's grid, and what it requires of the device.
#pragma once
#include <cstdint>

namespace billfish::BILLFISH_TARGET {

struct GridSize {
  uint32_t x = 1, y = 1, z = 1;
};

struct LaunchShape {
  GridSize grid = {};         // blocks
  GridSize block = {};        // threads
  uint32_t shared_bytes = 0;  // of shared_memory<T>()
  bool co_resident = false;   // all blocks are resident at once, so they may wait for each other (wait_until)
  // May start while the previous grid finishes, if the stream overlaps grids: call wait_for_previous_grid() before
  // touching memory.
  bool programmatic = false;
};

}  // namespace billfish::BILLFISH_TARGET
