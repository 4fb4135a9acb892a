// The work of a NativeBenchmark by kind: JavaScript specs become functions that a thread runs.
#pragma once
#include <napi.h>

#include <functional>

#include "benchmark/harness.h"

namespace billfish {

// Writes what was measured into an object of JavaScript, on its thread.
using Fill = std::function<void(Napi::Object&)>;
// Any thread: takes a result.
using Report = std::function<void(Fill)>;
// Measures, and returns the final result: about the machine, or a summary. Throws Error; ABORTED once cancelled.
using Work = std::function<Fill(const bench::Control&, const Report&)>;

// Each throws INVALID_OPTION for a spec that is none.
Work gemm_work(const Napi::Object& spec);
Work attention_work(const Napi::Object& spec);
Work tune_work(const Napi::Object& spec);  // tune.cc

}  // namespace billfish
