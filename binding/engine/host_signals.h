// Which signals are no business of the engine's threads.
#pragma once
#include <csignal>

namespace billfish {

// All that the host program's own threads handle, for the engine's to block. Not those that a thread brings upon
// itself: a fault whose signal is blocked ends the process, whatever handler there is (checkpoint/sigbus_guard.h has
// one).
inline sigset_t host_signals() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&signals, fault);
  return signals;
}

}  // namespace billfish
