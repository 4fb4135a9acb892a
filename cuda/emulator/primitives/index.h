// Thread, block and grid indices in the emulator.
#pragma once
#include <cstdint>

#include "machine/grid.h"
#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

constexpr uint32_t warp_size = emulator::warp_lanes;

using uint3 = emulator::Index;

inline uint3 thread_index() { return emulator::running()->index; }
inline uint3 block_index() { return emulator::running()->block->index; }
inline uint3 block_size() { return emulator::running()->block->grid->launch().block; }
inline uint3 grid_size() { return emulator::running()->block->grid->launch().grid; }

inline int compiled_architecture() { return emulator::running()->block->grid->launch().device->code_architecture; }

inline uint32_t lane_index() { return thread_index().x % warp_size; }
inline uint32_t recomputed_lane_index() { return lane_index(); }
inline uint32_t warp_index() { return thread_index().x / warp_size; }

}  // namespace billfish::BILLFISH_TARGET
