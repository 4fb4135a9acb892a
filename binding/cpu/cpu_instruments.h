// The host's clock and what its memory reaches at best, for benchmarks.
#pragma once
#include <memory>

#include "engine/instruments.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

std::unique_ptr<Instruments> make_instruments(ThreadPool& pool);

}  // namespace billfish::cpu
