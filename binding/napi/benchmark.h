// NativeBenchmark: the JavaScript class behind `billfish bench gemm`, `bench attention` and `bench tune`.
// benchmark_work.h says what it measures, on its own thread.
#pragma once
#include <napi.h>

#include <memory>

namespace billfish {

class BenchmarkCore;

class NativeBenchmark : public Napi::ObjectWrap<NativeBenchmark> {
 public:
  static void init(Napi::Env env, Napi::Object exports);
  explicit NativeBenchmark(const Napi::CallbackInfo& info);
  ~NativeBenchmark() override;

 private:
  Napi::Value run(const Napi::CallbackInfo& info);  // run(onResult(result)): Promise<end>, once
  void abort(const Napi::CallbackInfo& info);       // the promise of run() rejects with ABORTED

  std::unique_ptr<BenchmarkCore> core_;
};

}  // namespace billfish
