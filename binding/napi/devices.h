// devices(), emulatedDevices() and testCudaDevice(index): what this machine can compute on.
#pragma once
#include <napi.h>

namespace billfish {

void init_devices(Napi::Env env, Napi::Object exports);

}  // namespace billfish
