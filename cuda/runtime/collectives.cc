#include "runtime/collectives.h"

#include "runtime/check.h"
#include "runtime/stream_state.h"

namespace billfish::BILLFISH_TARGET {

const size_t max_tried_sum = 512 * 8192;

const NcclLibrary& collective_library() { return nccl_library(); }

void* library_stream(Stream& stream) { return stream.state().stream; }

void make_current(const Stream& stream) { const OnDevice on_device(stream.device()); }

}  // namespace billfish::BILLFISH_TARGET
