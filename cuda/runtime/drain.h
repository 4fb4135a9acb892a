// Waiting for work whose outcome nobody wants any more: what it uses is about to go, or to be used again.
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
    // Whoever waited for the work has been told, or has gone.
  }
}

}  // namespace billfish::BILLFISH_TARGET
