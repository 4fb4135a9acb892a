// devices(), emulatedDevices() and testCudaDevice(index): the devices of this machine.
#pragma once
#include <napi.h>

namespace billfish {

void init_devices(Napi::Env env, Napi::Object exports);

}  // namespace billfish
