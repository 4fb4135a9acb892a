// Where GEMM tunings are stored, for JavaScript. Measuring them is a kind of NativeBenchmark (benchmark_work.h).
#pragma once
#include <napi.h>

namespace billfish {

void init_tune(Napi::Env env, Napi::Object exports);

}  // namespace billfish
