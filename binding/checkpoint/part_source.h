// A part of a quantized layer: some of its outputs and inputs, with zeros in between. Everything below sees the stored
// layer, everything above an ordinary canonical one, so padding and sharding are independent of formats.
#pragma once
#include <memory>

#include "checkpoint/readers.h"

namespace billfish {

// Throws INVALID_CHECKPOINT if a group of the part would mix inputs of several stored groups, or if inputs of an
// act-order layer are selected although nothing says that they are in its order.
std::unique_ptr<CanonicalSource> part_of(std::unique_ptr<CanonicalSource> stored, const QuantizedSpec& spec,
                                         const MappedFiles& files);

}  // namespace billfish
