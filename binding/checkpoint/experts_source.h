// The rows of a weight of experts (WeightShape::experts): one linear below the other, each padded with zeros to a
// multiple of expert_row_tile rows.
#pragma once
#include <memory>
#include <vector>

#include "checkpoint/readers.h"

namespace billfish {

// Of quantized experts. They may be of several formats. Where only some have zero points, the others have the middle.
class QuantizedExperts final : public CanonicalSource {
 public:
  // `shape`: of the whole weight, canonical_shape(shape_of(spec)). Throws what open_quantized() does, and
  // INVALID_CHECKPOINT for inputs in an order that the specs do not have.
  QuantizedExperts(const ExpertsSpec& spec, const CanonicalShape& shape, const MappedFiles& files);
  const CanonicalShape& shape() const override { return shape_; }
  void read(int64_t first, int64_t count, CanonicalRows& rows) const override;

 private:
  void take_order(size_t expert);

  int64_t out_;
  CanonicalShape shape_;
  std::vector<std::unique_ptr<CanonicalSource>> experts_;
};

// Of experts that are matrices.
class MatrixExperts {
 public:
  // Throws what MatrixSource does.
  MatrixExperts(const ExpertsSpec& spec, const MappedFiles& files);
  // As MatrixSource's.
  void read(int64_t first, int64_t count, void* rows) const;
  std::vector<float> bias() const;

 private:
  int64_t out_;
  size_t row_bytes_;
  std::vector<MatrixSource> experts_;
};

}  // namespace billfish
