// Readers from mapped files to what backends take: canonical rows of quantized linears, rows of matrices, and fp32
// vectors.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "checkpoint/channels.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"
#include "engine/canonical.h"

namespace billfish {

// Checks the spec against the files (dtypes, shapes, ranges, group index) and returns the format's reader. Throws
// INVALID_CHECKPOINT naming file, tensor and numbers. The source keeps the files alive.
std::unique_ptr<CanonicalSource> open_quantized(const QuantizedSpec& spec, const MappedFiles& files);

// Rows of a matrix, or of a part of one, in the checkpoint's own floating-point type.
class MatrixSource {
 public:
  // Throws INVALID_CHECKPOINT unless the tensors have the types and shapes of the spec and are within the files. The
  // source keeps the files alive.
  MatrixSource(const MatrixSpec& spec, const MappedFiles& files);

  // Copies rows [first, first + count), raw, to `rows` ([count][in] of the weight's type). Thread-safe.
  void read(int64_t first, int64_t count, void* rows) const;
  // The bias of all rows as fp32; empty without one. Throws on NaN or infinity.
  std::vector<float> bias() const;

 private:
  template <class Element>
  void read_columns(int64_t first_column, int64_t count, uint8_t* rows) const;

  MatrixSpec spec_;
  MappedFiles files_;
  int64_t stored_out_, stored_in_;
  Channels outputs_, inputs_;
};

// A whole vector (norm weight, bias) as fp32. Throws on NaN or infinity.
std::vector<float> read_vector(const TensorRef& tensor, int64_t length, const MappedFiles& files);
std::vector<float> read_vector(const VectorSpec& spec, const MappedFiles& files);

// Drops the pages of everything that the weight was read from (MappedFile::release).
void release_source(const QuantizedSpec& spec, const MappedFiles& files);
void release_source(const MatrixSpec& spec, const MappedFiles& files);

}  // namespace billfish
