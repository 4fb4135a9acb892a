// From mapped files to what backends take: canonical rows of quantised linears, plain rows of matrices, fp32 vectors.
#pragma once
#include <memory>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"
#include "engine/canonical.h"

namespace billfish {

// Checks the spec against the files (dtypes, shapes, ranges, group index) and returns the format's reader. Throws
// INVALID_CHECKPOINT naming file, tensor and numbers. The source keeps the files alive.
std::unique_ptr<CanonicalSource> open_quantized(const QuantizedSpec& spec, const MappedFiles& files);

// Copies rows [first, first + count) of the matrix, raw, to `out` ([count][in] of weight.dtype). Thread-safe.
void read_matrix_rows(const MatrixSpec& spec, const MappedFiles& files, int64_t first, int64_t count, void* out);

// A whole vector (norm weight, bias) as fp32. Throws on NaN or infinity.
std::vector<float> read_vector(const TensorRef& tensor, int64_t length, const MappedFiles& files);

// Throws unless the spec's tensors have the dtypes and shapes that it claims and lie inside the files.
void check_matrix(const MatrixSpec& spec, const MappedFiles& files);

// Drops the pages of everything that the weight was read from (MappedFile::release).
void release_source(const QuantizedSpec& spec, const MappedFiles& files);
void release_source(const MatrixSpec& spec, const MappedFiles& files);

}  // namespace billfish
