// The addon's entry point: the list of its exports.
#include <dlfcn.h>
#include <napi.h>

#include "exports.h"
#include "task.h"

// Keeps this addon's code loaded for good. Node.js unloads an addon when the last environment that uses it ends;
// threads of the shared pool would then run unmapped code, which is how addons crash at the end of a worker_threads
// Worker.
static void pin_module() {
  Dl_info module;
  if (dladdr(reinterpret_cast<const void*>(&pin_module), &module) == 0) return;
  // The handle is not kept: RTLD_NODELETE marks the module itself, and closing the handle would not change that.
  dlopen(module.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  pin_module();
  billfish::init_devices(env, exports);
  billfish::init_model(env, exports);
  billfish::init_stage_plan(env, exports);
  billfish::NativeTask::init(env, exports);
  billfish::init_grammar(env, exports);
  billfish::init_tune(env, exports);
  billfish::init_file_lock(env, exports);
  return exports;
}

NODE_API_MODULE(billfish, init)
