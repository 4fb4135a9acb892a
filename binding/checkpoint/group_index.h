// Act-order: the stored group of every input, and the permutation of the inputs that makes groups contiguous.
#pragma once
#include <cstdint>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"

namespace billfish {

// Reads the group index of a layer with `in` inputs. Empty when the groups are in natural order (input k in group k /
// group_size), or when all entries are zero, which writers without act-order left behind. Otherwise order[i] is the
// input that comes i-th when inputs are sorted by group, equal groups in their stored order. Throws INVALID_CHECKPOINT
// unless the i-th is then in group i / group_size, which is what makes the sorted layer an ordinary grouped one.
std::vector<int32_t> read_order(const TensorRef& group_index, int64_t in, int64_t group_size, const MappedFiles& files);

}  // namespace billfish
