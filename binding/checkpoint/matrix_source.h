// Rows of a matrix, or of a part of one, in the checkpoint's own floating-point type.
#pragma once
#include <cstdint>
#include <vector>

#include "checkpoint/channels.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"

namespace billfish {

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
  MatrixSpec spec_;
  MappedFiles files_;
  int64_t stored_out_, stored_in_;
  Channels outputs_, inputs_;
};

}  // namespace billfish
