// The collectives library (NCCL) of this target, and its view of streams and devices. Emulated devices have none,
// except for a fake one that tests bring (BILLFISH_NCCL names it).
#pragma once
#include <cstddef>

#include "platform/nccl_library.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// The library for devices of this target; its `reason` says why there is none.
const NcclLibrary& collective_library();

// The stream as the library takes it, valid as long as the stream.
void* library_stream(Stream& stream);

// The longest sum, in elements, to try before the first step: on GPUs that of a large model's full step.
extern const size_t max_tried_sum;

// Makes the stream's device current on the calling thread, as the library requires.
void make_current(const Stream& stream);

}  // namespace billfish::BILLFISH_TARGET
