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
// inputs. Equally fast from any thread.
std::unique_ptr<CanonicalSource> random_quantized(const CanonicalShape& shape);

// Numbers of type f32, f16 or bf16 in [low, high], from random offsets of a table made once.
class RandomNumbers {
 public:
  RandomNumbers(DType type, float low, float high);
  // `count` of them, raw, selected by `place`. From any thread.
  void fill(uint64_t place, size_t count, void* to) const;

 private:
  size_t size_;
  std::vector<uint8_t> elements_;
};

// A matrix with rows of `in` elements of `type`, within +-1 / sqrt(in).
class RandomMatrix {
 public:
  RandomMatrix(int64_t in, DType type);
  // Rows [first, first + count), raw. From any thread.
  void read(int64_t first, int64_t count, void* out) const;

 private:
  int64_t in_;
  DType type_;
  RandomNumbers numbers_;
};

// Numbers in [low, high].
std::vector<float> random_vector(int64_t length, float low, float high);

}  // namespace billfish
