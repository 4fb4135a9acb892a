// What the machine's own library of collectives (NCCL) is told of streams and devices. Emulated devices have none, but
// for one that the tests bring (BILLFISH_NCCL names it).
#pragma once
#include <cstddef>

#include "platform/nccl_library.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// The library for devices of this target; its `reason` says why there is none.
const NcclLibrary& collective_library();

// What the library takes for the stream, as long as that lives.
void* library_stream(Stream& stream);

// The longest sum, in numbers, that is tried before the first step: as long as a large model's of a full step on GPUs.
extern const size_t max_tried_sum;

// Makes the stream's device the calling thread's current one, as the library wants it.
void make_current(const Stream& stream);

}  // namespace billfish::BILLFISH_TARGET
