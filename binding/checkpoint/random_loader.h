// Random weights of the specs' shapes and types: a checkpoint for benchmarks.
#pragma once
#include <vector>

#include "checkpoint/loader.h"

namespace billfish {

// As load_weights(), but no file is read: the specs' tensors tell types alone, and parts of layers are filled as whole
// ones (so that parts of one shape are alike). Inputs are in their natural order. Throws OUT_OF_MEMORY, or ABORTED once
// cancelled.
void load_random_weights(Stage& stage, const std::vector<WeightSpec>& specs, LoadControl& control);

}  // namespace billfish
