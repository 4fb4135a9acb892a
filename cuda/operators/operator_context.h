// The operators of engine/operators.h on a device: run(context, call), each in a file of its own, queues what the
// operator does on the stage's stream.
#pragma once
#include <vector>

#include "engine/operators.h"
#include "gemm/planned_linear.h"
#include "layer/batch.h"
#include "layer/matrix_of.h"
#include "primitives/numbers.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

struct VectorWeight final : Weight {
  float* values = nullptr;
};
// A quantized linear, or a matrix: a linear's, an embedding's, or of both where they are tied.
struct MatrixWeight final : Weight {
  LinearWeight linear;
  DType stored_type = DType::f16;  // of a matrix in the checkpoint
};

// Null for an optional weight that is missing.
inline const float* vector_of(const Weight* weight) {
  return weight == nullptr ? nullptr : static_cast<const VectorWeight*>(weight)->values;
}
inline const LinearWeight& linear_of(const Weight* weight) { return static_cast<const MatrixWeight*>(weight)->linear; }

// What operators find beside their operands. Element: half or bfloat16.
template <class Element>
struct OperatorContext {
  Stream& stream;
  const DeviceBatch* batch = nullptr;          // of the step in progress
  std::vector<AttentionShape> attention = {};  // each shape that occurs in the program, as the batch numbers them
  void* attention_scratch = nullptr;
  LinearWorkspace linears = {};
  void* grouping = nullptr;                   // where the slots of experts are sorted
  Element* gathered = nullptr;                // room for the inputs of slots, in the orders of their experts
  Element* narrowed = nullptr;                // room for an input of linears that the stage has in fp32
  std::vector<LinearCall> linear_calls = {};  // room for those of one operator

  template <class T>
  Matrix<T> matrix(const Tensor& tensor) const {
    return matrix_of<T>(tensor, stream.device());
  }
};

#define BILLFISH_RUN(Name) \
  template <class Element> \
  void run(OperatorContext<Element>& context, const Call<billfish::Name>& call);
BILLFISH_BACKEND_OPERATORS(BILLFISH_RUN)
#undef BILLFISH_RUN

// At the end of an operator's file.
#define BILLFISH_INSTANTIATE_RUN(Name)                                            \
  template void run(OperatorContext<half>& context, const Call<billfish::Name>&); \
  template void run(OperatorContext<bfloat16>& context, const Call<billfish::Name>&)

}  // namespace billfish::BILLFISH_TARGET
