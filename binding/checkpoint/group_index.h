// Act-order: the stored group of every input, and the permutation of the inputs that makes groups contiguous.
#pragma once
#include <cstdint>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"

namespace billfish {

// Reads the group index of a layer with `in` inputs. Empty if the groups are in natural order (input k in group k /
// group_size), or if all entries are zero, as some writers leave them without act-order. Otherwise order[i] is the i-th
// input after a stable sort by group. Throws INVALID_CHECKPOINT unless that input is in group i / group_size, which
// makes the sorted layer an ordinary grouped one.
std::vector<int32_t> read_order(const TensorRef& group_index, int64_t in, int64_t group_size, const MappedFiles& files);

}  // namespace billfish
