// NativeTask: the JavaScript class behind long computations, such as `billfish bench gemm` and the verification of
// `billfish pad`. Each runs on its own thread, reports results as it goes, and can be aborted.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>

#include "engine/control.h"

namespace billfish {

// Writes a result into a JavaScript object, on the JavaScript thread.
using Fill = std::function<void(Napi::Object&)>;
// Takes a result, on any thread.
using Report = std::function<void(Fill)>;
// Computes, and returns the final report. Throws Error; ABORTED once cancelled.
using Work = std::function<Fill(const Control&, const Report&)>;

// The work of each kind, from its spec. Throw INVALID_OPTION for a malformed one.
Work gemm_work(const Napi::Object& spec);       // benchmark_work.cc
Work attention_work(const Napi::Object& spec);  // benchmark_work.cc
Work tune_work(const Napi::Object& spec);       // tune.cc
Work padding_work(const Napi::Object& spec);    // padding_work.cc

class TaskCore;

class NativeTask : public Napi::ObjectWrap<NativeTask> {
 public:
  static void init(Napi::Env env, Napi::Object exports);
  explicit NativeTask(const Napi::CallbackInfo& info);
  ~NativeTask() override;

 private:
  Napi::Value run(const Napi::CallbackInfo& info);  // run(onResult(result)): Promise<end>, once
  void abort(const Napi::CallbackInfo& info);       // the promise of run() rejects with ABORTED

  std::unique_ptr<TaskCore> core_;
};

}  // namespace billfish
