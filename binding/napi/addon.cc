// The addon's entry point: the list of its exports.
#include <napi.h>

#include "exports.h"
#include "model.h"
#include "pin_module.h"
#include "stage_plan.h"
#include "task.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  billfish::pin_module();
  billfish::init_devices(env, exports);
  billfish::NativeModel::init(env, exports);
  billfish::StagePlan::init(env, exports);
  billfish::NativeTask::init(env, exports);
  billfish::init_tune(env, exports);
  billfish::init_file_lock(env, exports);
  return exports;
}

NODE_API_MODULE(billfish, init)
