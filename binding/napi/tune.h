// Measuring the GEMM of a device for its cost model, from JavaScript.
#pragma once
#include <napi.h>

namespace billfish {

void init_tune(Napi::Env env, Napi::Object exports);

}  // namespace billfish
