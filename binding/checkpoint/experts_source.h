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
  // UNSUPPORTED_MODEL for inputs that are not in their natural order.
  QuantizedExperts(const ExpertsSpec& spec, const CanonicalShape& shape, const MappedFiles& files);
  const CanonicalShape& shape() const override { return shape_; }
  void read(int64_t first, int64_t count, CanonicalRows& rows) const override;

 private:
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
