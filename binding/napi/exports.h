// What the addon exports besides NativeTask (task.h). Each function adds to `exports`.
#pragma once
#include <napi.h>

namespace billfish {

// devices(), emulatedDevices() and testCudaDevice(index): the devices of this machine.
void init_devices(Napi::Env env, Napi::Object exports);

// NativeModel, the class behind a loaded model.
void init_model(Napi::Env env, Napi::Object exports);

// StagePlan, a stage whose bytes can be counted.
void init_stage_plan(Napi::Env env, Napi::Object exports);

// TokenTrie, Grammar and Matcher, of structured output.
void init_grammar(Napi::Env env, Napi::Object exports);

// tryLockFile(descriptor): the advisory lock of an open file.
void init_file_lock(Napi::Env env, Napi::Object exports);

// Where GEMM tunings are stored. Measuring them is a kind of NativeTask (task.h).
void init_tune(Napi::Env env, Napi::Object exports);

}  // namespace billfish
