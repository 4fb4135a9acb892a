#include "engine/non_finite.h"

#include <array>
#include <cmath>

namespace billfish {
namespace {

float element(const void* data, DType type, int64_t at) {
  if (type == DType::f32) return static_cast<const float*>(data)[at];
  const uint16_t half = static_cast<const uint16_t*>(data)[at];
  return type == DType::f16 ? f16_to_float(half) : bf16_to_float(half);
}

}  // namespace

bool all_finite(const float* values, size_t count) {
  constexpr size_t lanes = 16;  // independent sums, so that the compiler may vectorize
  std::array<float, lanes> sums{};
  const size_t whole = count - count % lanes;
  for (size_t first = 0; first < whole; first += lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) sums[lane] += values[first + lane] - values[first + lane];
  }
  for (size_t i = whole; i < count; ++i) sums[0] += values[i] - values[i];
  float sum = 0;  // NaN if any difference was: that of a NaN, or of an infinity, and itself
  for (const float lane : sums) sum += lane;
  return sum == 0;
}

std::optional<NonFinite> find_non_finite(const void* data, DType type, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const float value = element(data, type, row * stride + column);
      if (!std::isfinite(value)) return NonFinite{row, column, value};
    }
  }
  return std::nullopt;
}

Error NonFiniteOutput::error() const {
  const char* const value = std::isnan(found.value) ? "NaN" : found.value > 0 ? "infinity" : "-infinity";
  return Error("NON_FINITE", output + " is " + value + " at position " + std::to_string(position) + ", channel " +
                                 std::to_string(found.column) + " (on " + device +
                                 "), and nothing before it is NaN or infinite. Its weights are damaged, or its numbers "
                                 "exceed their format: compare the checkpoint's files with their source, or load it "
                                 "with dtype 'bfloat16' (on the CPU, 'float32').");
}

}  // namespace billfish
