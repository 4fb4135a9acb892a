// The input of linear(), prepared for the calls that share it: in their act-order, as 16-bit integers or floats, and
// cut into segments. The rows of a segment are adjacent, [segment][row][input], so that a GEMM reads them as one
// stream: rows a power of two apart would map to the same cache sets.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/linear.h"
#include "cpu/linear_kernels.h"
#include "cpu/scratch.h"

namespace billfish::cpu {

struct Activation {
  // How it is prepared: calls that agree in these share it.
  bool quantized = false;
  int64_t in = 0;
  int64_t group_size = 0;          // of the segments
  const int32_t* order = nullptr;  // [in]; null: natural

  QuantizedActivations integers;  // if quantized
  const float* floats = nullptr;  // if not

  bool same_preparation(const Activation& other) const;
};

// The activation of a call, still to be prepared.
Activation activation_for(const LinearCall& call, Precision precision);

// Bytes of scratch that prepare() takes for `rows` rows.
size_t activation_bytes(const Activation& activation, int64_t rows);

// Prepares x in the scratch.
void prepare(const Rows& x, Activation& activation, const Scratch& scratch, ThreadPool& pool);

}  // namespace billfish::cpu
