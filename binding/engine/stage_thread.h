// The setup of every engine thread.
#pragma once
#include <csignal>
#include <string>

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

// Names the thread (15 characters are visible) and blocks host_signals().
void prepare_stage_thread(const std::string& name);

}  // namespace billfish
