// A stage before it is loaded, and what it allocates of its backend whatever the backend is: all but the weights and
// the buffers that Backend::prepare() makes.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/dtype.h"
#include "engine/places.h"
#include "engine/program.h"
#include "engine/stage_limits.h"

namespace billfish {

// What the bytes of a stage depend on besides its device. The program is valid.
struct StageOutline {
  const Program& program;
  const std::vector<WeightShape>& weights;
  StageLimits limits;
  bool is_first_rank = true;  // or the only one

  // The most rows of a value.
  int64_t rows_of(const Value& value) const {
    return value.rows == RowKind::tokens ? limits.max_rows : limits.max_logit_rows;
  }
};

// In bytes; 0: no allocation.
struct StageAllocations {
  uint64_t token_arena = 0, logit_arena = 0;
  std::vector<uint64_t> caches;  // a layer's keys, and as much its values
  std::vector<uint64_t> states;  // of all sequences, for each state layer
  // Hidden states on their way to the stage behind or from the one before, in the host's memory: the first rank's.
  int64_t hidden_width = 0;
  uint64_t hidden = 0;
  std::vector<uint64_t> links;  // the buffer of each link to a branch, in the host's memory: the first rank's
};

// Throws UNSUPPORTED_MODEL for more than max_bytes.
StageAllocations stage_allocations(const StageOutline& stage, const Places& places, DType cache_type);

}  // namespace billfish
