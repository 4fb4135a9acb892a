// The input of linear(), prepared for the calls that share it: in their act-order, as 16-bit integers or as floats, and
// cut in segments. The rows of a segment lie side by side, [segment][row][input], so that a GEMM reads them in one
// stream: rows that are a power of two apart would fall on the same sets of the cache.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "cpu/linear.h"
#include "cpu/linear_kernels.h"

namespace billfish::cpu {

// Memory that only grows, aligned for vectors.
template <class T>
class GrowingBuffer {
 public:
  GrowingBuffer() = default;
  GrowingBuffer(const GrowingBuffer&) = delete;
  GrowingBuffer& operator=(const GrowingBuffer&) = delete;
  ~GrowingBuffer() { release(); }

  T* at_least(int64_t count) {
    if (count > capacity_) {
      release();
      data_ = static_cast<T*>(::operator new (static_cast<size_t>(count) * sizeof(T), std::align_val_t{64}));
      capacity_ = count;
    }
    return data_;
  }
  const T* data() const { return data_; }

 private:
  void release() {
    ::operator delete (data_, std::align_val_t{64});
    data_ = nullptr;
    capacity_ = 0;
  }

  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

struct Activation {
  bool quantized = false;
  int64_t group_size = 0;                       // of the segments
  const std::vector<int32_t>* order = nullptr;  // null: natural
  GrowingBuffer<int16_t> codes;
  GrowingBuffer<float> scales;
  GrowingBuffer<int32_t> sums;
  GrowingBuffer<float> floats;

  QuantizedActivations integers;  // when quantized
};

// The activations of one linear(), each prepared once. Their memory is reused by the next.
class PreparedActivations {
 public:
  void clear() { used_ = 0; }

  // x for a weight with this group size and act-order (null: natural).
  const Activation& get(const Rows& x, int64_t group_size, const std::vector<int32_t>* order, bool quantized,
                        ThreadPool& pool);

 private:
  std::vector<std::unique_ptr<Activation>> activations_;
  size_t used_ = 0;
};

}  // namespace billfish::cpu
