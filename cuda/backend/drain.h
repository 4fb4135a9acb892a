// Waiting for a stream whose outcome nobody wants any more: what it uses is about to go.
#pragma once
#include "engine/error.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

inline void drain(Stream& stream) noexcept {
  try {
    stream.synchronize();
  } catch (const Error&) {
    // Whoever waited for the work has been told, or has gone.
  }
}

}  // namespace billfish::BILLFISH_TARGET
