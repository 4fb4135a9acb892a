// The signals that the engine's threads leave to the host program.
#pragma once
#include <csignal>

namespace billfish {

// Every signal that the host program's threads handle, for the engine's threads to block. Not the synchronous ones: a
// fault whose signal is blocked kills the process, whatever handler is installed (checkpoint/sigbus_guard.h installs
// one).
inline sigset_t host_signals() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&signals, fault);
  return signals;
}

}  // namespace billfish
