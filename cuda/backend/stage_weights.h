// A stage's weights: allocated on its device, and filled slab by slab while the model is loaded.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "backend/slab_uploads.h"
#include "backend/stage_memory.h"
#include "engine/backend.h"
#include "operators/operator_context.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// The functions are those of engine/backend.h.
class StageWeights {
 public:
  // `element_type`: of matrices on the device. Memory and stream belong to the stage and outlive this object.
  StageWeights(Stream& stream, StageMemory& memory, DType element_type)
      : stream_(stream), memory_(memory), element_type_(element_type) {}
  // Sets the bytes of the largest slab. Before any weight is filled.
  void set_slab_bytes(size_t bytes) { slab_bytes_ = bytes; }

  std::unique_ptr<Weight> make_vector(const std::vector<float>& values);
  std::unique_ptr<Weight> make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias);
  void fill_matrix(const Weight& weight, int64_t first, int64_t count, const void* rows);
  std::unique_ptr<Weight> make_quantized(const CanonicalShape& shape);
  void fill_quantized(const Weight& weight, const CanonicalRows& rows);
  void finish();

 private:
  void start_uploads();

  Stream& stream_;
  StageMemory& memory_;
  DType element_type_;
  size_t slab_bytes_ = 0;
  std::optional<SlabUploads> uploads_;
};

}  // namespace billfish::BILLFISH_TARGET
