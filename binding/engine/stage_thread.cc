#include "engine/stage_thread.h"

#if defined(__linux__)
#include <pthread.h>
#include <signal.h>
#endif

namespace billfish {

void prepare_stage_thread(const std::string& name) {
#if defined(__linux__)
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
#else
  (void)name;
#endif
}

}  // namespace billfish
