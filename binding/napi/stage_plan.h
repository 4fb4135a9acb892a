// A stage's program and the shapes of its weights, handed over in slices, so that its bytes can be counted for any
// device and limits without a new conversion.
#pragma once
#include <napi.h>

#include <vector>

#include "engine/program.h"

namespace billfish {

// src/native/addon.ts has its methods' types.
class StagePlan : public Napi::ObjectWrap<StagePlan> {
 public:
  static void init(Napi::Env env, Napi::Object exports);
  explicit StagePlan(const Napi::CallbackInfo& info);

 private:
  void add(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);

  bool is_first_rank_ = true;
  Program program_;
  std::vector<WeightShape> weights_;
  bool is_valid_ = false;  // since the last slice
};

}  // namespace billfish
