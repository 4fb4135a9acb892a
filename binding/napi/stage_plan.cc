// A stage's program and the shapes of its weights, handed over in slices, so that its bytes can be counted for any
// device and limits without a new conversion.
#include <napi.h>

#include <vector>

#include "backends.h"
#include "convert.h"
#include "engine/program.h"
#include "exports.h"
#include "model_spec.h"

namespace billfish {
namespace {

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

// Tokens of a step that a plan may be made for.
constexpr int64_t max_planned_rows = 1 << 24;

void StagePlan::init(Napi::Env env, Napi::Object exports) {
  exports["StagePlan"] = DefineClass(
      env, "StagePlan", {InstanceMethod<&StagePlan::add>("add"), InstanceMethod<&StagePlan::memory>("memory")});
}

StagePlan::StagePlan(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] { is_first_rank_ = to_integer(info[0], "rank", 0, int32_max) == 0; });
}

void StagePlan::add(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    is_valid_ = false;
    add_to_program(program_, to_object(info[0], "program"));
    const Napi::Array weights = to_array(info[1], "weights");
    for (uint32_t i = 0; i < weights.Length(); ++i) {
      const Napi::HandleScope scope(info.Env());
      weights_.push_back(parse_weight_shape(to_object(weights.Get(i), "weights")));
    }
  });
}

Napi::Value StagePlan::memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const std::string device = to_string(info[0], "device");
    const Napi::Object options = to_object(info[1], "limits");
    const StageLimits limits = parse_limits(options, max_planned_rows);
    if (!is_valid_) validate(program_, weights_);
    is_valid_ = true;
    const PlannedMemory planned =
        plan_memory(device, {program_, weights_, limits, is_first_rank_}, parse_number_formats(options));
    Napi::Object memory = Napi::Object::New(env);
    const auto set = [&](const char* name, uint64_t bytes) {
      memory[name] = Napi::Number::New(env, static_cast<double>(bytes));
    };
    set("weights", planned.count.weights);
    set("kvCache", planned.count.kv_cache);
    set("states", planned.count.states);
    set("buffers", planned.count.buffers);
    set("page", planned.page);
    set("read", planned.read);
    return memory;
  });
}

}  // namespace

void init_stage_plan(Napi::Env env, Napi::Object exports) { StagePlan::init(env, exports); }

}  // namespace billfish
