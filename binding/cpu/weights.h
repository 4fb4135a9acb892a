// Weights of a stage on the CPU, as the Backend makes them and operators find them in their calls.
#pragma once
#include "cpu/linear.h"
#include "engine/operands.h"

namespace billfish::cpu {

struct VectorWeight final : Weight {
  float* values = nullptr;
};
struct MatrixWeight final : Weight {
  Matrix matrix;
};
struct QuantizedWeight final : Weight {
  QuantizedLinear linear;
};

// Null for an optional weight that is missing.
inline const float* vector_of(const Weight* weight) {
  return weight == nullptr ? nullptr : static_cast<const VectorWeight*>(weight)->values;
}
inline const Matrix& matrix_of(const Weight& weight) { return static_cast<const MatrixWeight&>(weight).matrix; }

}  // namespace billfish::cpu
