// NaN and infinity, and where in the forward pass they first appear.
//
// Steps do not check for them: that would cost a pass over every operator's output. Whatever reads all logits anyway,
// to sample from them or to return them, notes the non-finite rows (StepResult::non_finite_rows). No operator hides
// one: a NaN or an infinity in its input yields a NaN or an infinity in its output. Those rows are then recomputed by a
// step that searches (Step::search): it checks each operator's output, and fails with the name of the first bad one.
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
