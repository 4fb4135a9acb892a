// What every thread of the engine does first.
#pragma once
#include <string>

namespace billfish {

// Names it (15 characters are seen) and blocks what signals are the host program's (host_signals.h).
void prepare_stage_thread(const std::string& name);

}  // namespace billfish
