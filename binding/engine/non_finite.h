// NaN and infinity, and where in the forward pass they first come in.
//
// Steps do not look for them: that would cost a pass over every operator's output. Whoever reads all logits anyway, to
// sample from them or to hand them out, notes the rows that are not finite (StepResult::non_finite_rows). Nothing that
// runs in between hides one: what reads a NaN or an infinity gives a NaN or an infinity. The rows are then computed
// again by a step that searches (Step::search): it looks at what each operator has computed, and fails with the first
// one's name.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/dtype.h"
#include "engine/error.h"

namespace billfish {

bool all_finite(const float* values, size_t count);

// A non-finite number in a matrix.
struct NonFinite {
  int64_t row = 0, column = 0;
  float value = 0;
};

// Finds the first one in a row-major matrix of f32, f16 or bf16 whose rows are `stride` elements apart.
std::optional<NonFinite> find_non_finite(const void* data, DType type, int64_t rows, int64_t columns, int64_t stride);

// What a searching rank has found.
struct NonFiniteOutput {
  size_t order =
      0;  // of the operator in its stage, the same on all ranks: taps, which only the first has, do not count
  std::string output;  // a name for the message
  std::string device;
  int32_t position = 0;
  NonFinite found;

  Error error() const;  // NON_FINITE
};

}  // namespace billfish
