// NativeModel: the JavaScript class behind a loaded model. It turns arguments into C++ values and completions into
// promises; the work is done by checkpoint/loader.h and engine/pipeline.h on their own threads.
#pragma once
#include <napi.h>

#include <memory>

namespace billfish {

class ModelCore;

class NativeModel : public Napi::ObjectWrap<NativeModel> {
 public:
  static void init(Napi::Env env, Napi::Object exports);
  explicit NativeModel(const Napi::CallbackInfo& info);
  ~NativeModel() override;

 private:
  Napi::Value load(const Napi::CallbackInfo& info);    // load(onProgress(bytesDone)): Promise<void>
  void abort_load(const Napi::CallbackInfo& info);     // abortLoad(): the promise of load() rejects with ABORTED
  Napi::Value step(const Napi::CallbackInfo& info);    // step(request): Promise<result>
  Napi::Value memory(const Napi::CallbackInfo& info);  // memory(): [{device, weights, kvCache, buffers}]
  Napi::Value close(const Napi::CallbackInfo& info);   // close(): Promise<void>; steps in flight reject with DISPOSED

  std::unique_ptr<ModelCore> core_;
};

}  // namespace billfish
