// Random weights of the specs' shapes and types: a checkpoint for benchmarks.
#pragma once
#include <vector>

#include "checkpoint/loader.h"

namespace billfish {

// Like load_weights(), but reads no file: the specs' tensors only provide types, and parts of layers are filled like
// whole ones. Inputs are in their natural order. Throws OUT_OF_MEMORY, or ABORTED once cancelled.
void load_random_weights(Stage& stage, const std::vector<WeightSpec>& specs, LoadControl& control);

}  // namespace billfish
