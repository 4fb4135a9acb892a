// Weights of any shape with random numbers, for benchmarks: the same in every run, and made as fast as memory is
// written.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/canonical.h"
#include "engine/dtype.h"

namespace billfish {

// Codes and zero points of all values, scales around 1 / (2^bits * sqrt(in)), so that outputs are about as large as
// inputs. Reads as fast from any thread; its source_bytes() are the canonical ones.
std::unique_ptr<CanonicalSource> random_quantized(const CanonicalShape& shape);

// Rows [first, first + count) of a matrix with rows of `in` elements of `type` (f32, f16 or bf16), raw, within
// +-1 / sqrt(in).
void random_matrix_rows(int64_t first, int64_t count, int64_t in, DType type, void* out);

// Numbers in [low, high].
std::vector<float> random_vector(int64_t length, float low, float high);

}  // namespace billfish
