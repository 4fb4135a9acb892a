#include "tune.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends.h"
#include "convert.h"
#include "cuda/marlin/tune.h"
#include "engine/gemm_tuning.h"

namespace billfish {

namespace {

struct TuneSpec {
  std::string device;
  TuneOptions options;
  std::string table, source;  // what a file has, and its name
};

TuneSpec parse(const Napi::Object& spec) {
  constexpr int64_t most = 1 << 24;
  TuneSpec parsed;
  parsed.device = to_string(property(spec, "device"), "device");
  parsed.options.bfloat16 = to_bool(property(spec, "bfloat16"), "bfloat16");
  parsed.options.runs = static_cast<int>(to_integer(property(spec, "runs"), "runs", 1, 1000));
  parsed.options.launches = static_cast<int>(to_integer(property(spec, "launches"), "launches", 1, 1000));
  const Napi::Array rows = to_array(property(spec, "rows"), "rows");
  for (uint32_t i = 0; i < rows.Length(); ++i) {
    parsed.options.rows.push_back(to_integer(rows.Get(i), "rows", 1, most));
  }
  const Napi::Array shapes = to_array(property(spec, "shapes"), "shapes");
  for (uint32_t i = 0; i < shapes.Length(); ++i) {
    const Napi::Object object = to_object(shapes.Get(i), "shapes");
    const auto integer = [&](const char* name, int64_t low) {
      return to_integer(property(object, name), name, low, most);
    };
    const int64_t group = integer("groupSize", 0);  // 0: one group a row
    parsed.options.shapes.push_back({static_cast<int>(integer("bits", 4)), integer("out", 1), integer("in", 1),
                                     group == 0 ? -1 : group, to_bool(property(object, "zeroPoints"), "zeroPoints")});
  }
  parsed.table = to_string(property(spec, "table"), "table");
  parsed.source = to_string(property(spec, "source"), "source");
  return parsed;
}

// Measures on a thread of Node.js's pool.
class TuneWorker final : public Napi::AsyncWorker {
 public:
  TuneWorker(Napi::Env env, TuneSpec spec)
      : AsyncWorker(env), deferred(Napi::Promise::Deferred::New(env)), spec_(std::move(spec)) {}
  const Napi::Promise::Deferred deferred;

 private:
  void Execute() override {
    try {
      if (!spec_.table.empty()) parse_tunings(spec_.table, spec_.source);  // before it takes minutes
      report_ = tune_gemm(spec_.device, spec_.options);
      text_ = with_tuning(spec_.table, spec_.source, report_.tuning);
    } catch (const Error& error) {
      error_ = error;
    }
  }

  void OnOK() override {
    const Napi::Env env = Env();
    if (error_) {
      deferred.Reject(to_javascript(env, *error_).Value());
      return;
    }
    Napi::Array measurements = Napi::Array::New(env, report_.measurements.size());
    for (uint32_t i = 0; i < report_.measurements.size(); ++i) {
      const TuneMeasurement& measured = report_.measurements[i];
      Napi::Object object = Napi::Object::New(env);
      const auto set = [&](const char* name, double value) { object[name] = Napi::Number::New(env, value); };
      set("bits", measured.shape.bits);
      set("out", static_cast<double>(measured.shape.out));
      set("in", static_cast<double>(measured.shape.in));
      set("rows", static_cast<double>(measured.rows));
      set("fusedMicroseconds", measured.fused);
      if (measured.panels > 0) set("panelMicroseconds", measured.panels);
      if (measured.panels == 0) object["panelMicroseconds"] = env.Null();
      measurements[i] = object;
    }
    Napi::Object result = Napi::Object::New(env);
    result["machine"] = Napi::String::New(env, report_.tuning.device);
    result["table"] = Napi::String::New(env, text_);
    result["measurements"] = measurements;
    deferred.Resolve(result);
  }
  void OnError(const Napi::Error& error) override { deferred.Reject(error.Value()); }

  TuneSpec spec_;
  TuneReport report_;
  std::string text_;
  std::optional<Error> error_;
};

// tuneGemm({device, bfloat16, runs, launches, rows, shapes: [{bits, out, in, groupSize, zeroPoints}], table, source}):
//   Promise<{machine, table, measurements: [{bits, out, in, rows, fusedMicroseconds, panelMicroseconds: number |
//   null}]}>
Napi::Value start_tuning(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    auto* const worker = new TuneWorker(env, parse(to_object(info[0], "spec")));  // deletes itself
    const Napi::Promise promise = worker->deferred.Promise();
    worker->Queue();
    return promise;
  });
}

// tuningPath(): where tunings are kept; empty where they are switched off
Napi::Value path(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), tuning_path()); }

}  // namespace

void init_tune(Napi::Env env, Napi::Object exports) {
  exports["tuneGemm"] = Napi::Function::New(env, start_tuning, "tuneGemm");
  exports["tuningPath"] = Napi::Function::New(env, path, "tuningPath");
}

}  // namespace billfish
