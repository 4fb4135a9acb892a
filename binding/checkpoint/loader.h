// Loading: from mapped checkpoint files into the weights of a stage, slab by slab on all threads of the pool.
//
// Host memory in flight is one slab of canonical rows per thread, whatever the size of a layer; file pages that have
// been read are released after every weight.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"
#include "engine/stage.h"

namespace billfish {

struct LoadControl {
  std::atomic<bool> cancelled{false};
  std::atomic<uint64_t> bytes_done{0};
  std::function<void()> on_progress;  // called from any thread after bytes_done has grown
};

// What the engine must know about a weight before it is loaded. Throws INVALID_CHECKPOINT for experts that are not of
// one shape.
WeightShape shape_of(const WeightSpec& spec);
// Of `count` experts that are like this one but for their zero points and the orders of their inputs, which some may
// have.
WeightShape shape_of_experts(const std::string& name, const WeightShape& expert, int32_t count, bool has_zero_points,
                             bool has_order);
// Whether a quantized weight's inputs may be in another order than the layer's. A part along the inputs has them
// sorted.
constexpr bool may_be_permuted(bool has_group_index, bool is_part_along_inputs) {
  return has_group_index && !is_part_along_inputs;
}

// Creates and fills all weights of the stage. Throws Error: INVALID_CHECKPOINT, OUT_OF_MEMORY, or ABORTED once
// cancelled.
void load_weights(Stage& stage, const std::vector<WeightSpec>& specs, const MappedFiles& files, LoadControl& control);

// Like load_weights(), but with random numbers, for benchmarks: reads no file, the specs' tensors only provide types,
// and parts of layers are filled like whole ones. Inputs are in their natural order. Throws OUT_OF_MEMORY, or ABORTED
// once cancelled.
void load_random_weights(Stage& stage, const std::vector<WeightSpec>& specs, LoadControl& control);

}  // namespace billfish
