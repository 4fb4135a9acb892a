// What a stage holds on a CPU device: counted by plans before anything is loaded, and allocated by the backend. It
// depends neither on the instruction set nor on the number of threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/linear.h"
#include "engine/dtype.h"
#include "engine/memory_count.h"
#include "engine/places.h"
#include "engine/stage_allocations.h"

namespace billfish::cpu {

// All values are fp32.
constexpr ValueBytes value_bytes = {4, 4, 4};

constexpr uint64_t vector_bytes(uint64_t length) { return length * sizeof(float); }
constexpr uint64_t matrix_bytes(int64_t out, int64_t in, DType type) {
  return static_cast<uint64_t>(out * in) * byte_size(type);
}

// What prepare() allocates, in bytes; 0: no allocation.
struct StageBuffers {
  std::vector<uint64_t> rope_tables;  // one a rope: cosines and sines of a step, [max_rows][2][half]
  uint64_t scratch = 0;               // of the operator that needs most: they take turns
  uint64_t sampling = 0;              // of the last stage
};
StageBuffers stage_buffers(const StageOutline& stage, Precision precision);

// Bytes of a weight, as its allocations count. Throws INVALID_CHECKPOINT for what cannot be packed.
uint64_t weight_memory(const WeightShape& weight);

// All that the stage allocates, as it counts. Throws UNSUPPORTED_MODEL for more than max_bytes.
MemoryCount stage_memory(const StageOutline& stage, Precision precision, DType cache_type);

}  // namespace billfish::cpu
