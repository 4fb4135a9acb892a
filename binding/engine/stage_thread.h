// What every thread of the engine does first.
#pragma once
#include <string>

namespace billfish {

// Names it (15 characters are seen) and blocks all signals: they belong to the host program's threads.
void prepare_stage_thread(const std::string& name);

}  // namespace billfish
