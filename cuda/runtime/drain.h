// Waiting for work whose outcome no longer matters, because its resources are about to be freed or reused.
#pragma once
#include "engine/error.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Of a stream, or up to an event.
template <class StreamOrEvent>
void drain(StreamOrEvent& work) noexcept {
  try {
    work.synchronize();
  } catch (const Error&) {
    // Whoever waited for this work already has the error.
  }
}

}  // namespace billfish::BILLFISH_TARGET
