// Readers from mapped files to what backends take: canonical rows of quantized linears and fp32 vectors; matrices are
// in matrix_source.h.
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

// A whole vector (norm weight, bias) as fp32. Throws on NaN or infinity.
std::vector<float> read_vector(const TensorRef& tensor, int64_t length, const MappedFiles& files);

// Drops the pages of everything that the weight was read from (MappedFile::release).
void release_source(const QuantizedSpec& spec, const MappedFiles& files);
void release_source(const MatrixSpec& spec, const MappedFiles& files);

}  // namespace billfish
