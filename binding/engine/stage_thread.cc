#include "engine/stage_thread.h"

#if defined(__linux__)
#include <pthread.h>
#include <signal.h>
#endif

namespace billfish {

void prepare_stage_thread(const std::string& name) {
#if defined(__linux__)
  const sigset_t blocked = host_signals();
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
#else
  (void)name;
#endif
}

}  // namespace billfish
