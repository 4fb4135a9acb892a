// The setup of every engine thread.
#pragma once
#include <string>

namespace billfish {

// Names the thread (15 characters are visible) and blocks the host program's signals (host_signals.h).
void prepare_stage_thread(const std::string& name);

}  // namespace billfish
