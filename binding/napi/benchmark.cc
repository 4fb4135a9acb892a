#include "benchmark.h"

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "bench/attention.h"
#include "bench/gemm.h"
#include "convert.h"
#include "engine/overloaded.h"
#include "js_thread.h"
#include "model_spec.h"

namespace billfish {
namespace {

using bench::AttentionCase;
using bench::GemmOptions;

// The results of both kinds as JavaScript takes them.
using Fill = std::function<void(Napi::Object&)>;

void set(Napi::Object& object, const char* name, double value) {
  object[name] = Napi::Number::New(object.Env(), value);
}
void set(Napi::Object& object, const char* name, const std::string& value) {
  object[name] = Napi::String::New(object.Env(), value);
}
void set_timing(Napi::Object& object, const bench::Timing& timing) {
  set(object, "median", timing.median);
  set(object, "fastest", timing.fastest);
  set(object, "slowest", timing.slowest);
}

Fill filler(const bench::GemmResult& result) {
  return [result](Napi::Object& object) {
    set(object, "index", static_cast<double>(result.index));
    set(object, "bits", static_cast<double>(result.bits));
    set(object, "rows", static_cast<double>(result.rows));
    set_timing(object, result.timing);
    set(object, "weightBytes", static_cast<double>(result.weight_bytes));
    set(object, "movedBytes", static_cast<double>(result.moved_bytes));
    set(object, "memoryRate", result.memory_rate);
    set(object, "vendorSeconds", result.vendor_seconds);
  };
}

Fill filler(const bench::AttentionResult& result) {
  return [result](Napi::Object& object) {
    set(object, "index", static_cast<double>(result.index));
    set_timing(object, result.timing);
    set(object, "cacheBytes", static_cast<double>(result.cache_bytes));
    set(object, "multiplications", result.multiplications);
    set(object, "memoryRate", result.memory_rate);
  };
}

template <class Machine>
Fill machine_filler(const Machine& machine) {
  return [machine](Napi::Object& object) {
    set(object, "name", machine.name);
    set(object, "memoryTraffic", machine.memory_traffic);
    object["timesMeanSomething"] = Napi::Boolean::New(object.Env(), machine.times_mean_something);
    if constexpr (std::is_same_v<Machine, bench::GemmMachine>) {
      set(object, "vendor", machine.vendor);
      set(object, "vendorFlops", machine.vendor_flops);
    }
  };
}

// --- The specification.

constexpr int64_t most = 1 << 24;  // rows of a weight, inputs, positions

std::vector<int64_t> integers(const Napi::Object& object, const char* name, int64_t low, int64_t high) {
  const Napi::Array array = to_array(property(object, name), name);
  std::vector<int64_t> values;
  for (uint32_t i = 0; i < array.Length(); ++i) values.push_back(to_integer(array.Get(i), name, low, high));
  if (values.empty()) throw Error("INVALID_OPTION", std::string("Native argument ") + name + " is empty.");
  return values;
}

int64_t integer(const Napi::Object& object, const char* name, int64_t low, int64_t high) {
  return to_integer(property(object, name), name, low, high);
}

GemmOptions parse_gemm(const Napi::Object& spec) {
  GemmOptions options;
  const Napi::Array cases = to_array(property(spec, "cases"), "cases");
  for (uint32_t i = 0; i < cases.Length(); ++i) {
    const Napi::Object shape = to_object(cases.Get(i), "cases");
    options.cases.push_back({integers(shape, "outs", 1, most), integer(shape, "in", 1, most)});
  }
  options.rows = integers(spec, "rows", 1, 1 << 20);
  options.bits = integers(spec, "bits", 4, 16);
  for (const int64_t bits : options.bits) {
    if (bits == 4 || bits == 8 || bits == 16) continue;
    throw Error("INVALID_OPTION", "bits is " + std::to_string(bits) + ", but must be 4, 8 or 16.");
  }
  options.group_size = integer(spec, "groupSize", 0, most);
  options.zero_points = to_bool(property(spec, "zeroPoints"), "zeroPoints");
  return options;
}

std::vector<AttentionCase> parse_attention(const Napi::Object& spec) {
  std::vector<AttentionCase> parsed;
  const Napi::Array cases = to_array(property(spec, "cases"), "cases");
  for (uint32_t i = 0; i < cases.Length(); ++i) {
    const Napi::Object object = to_object(cases.Get(i), "cases");
    const auto count = [&](const char* name, int64_t low) {
      return static_cast<int32_t>(integer(object, name, low, most));
    };
    const AttentionCase c{count("heads", 1),     count("kvHeads", 1), count("headDim", 1), count("window", 0),
                          count("sequences", 1), count("past", 0),    count("rows", 1)};
    if (c.heads % c.kv_heads != 0) throw Error("INVALID_OPTION", "heads must be a multiple of kvHeads.");
    if (int64_t{c.sequences} * (int64_t{c.past} + c.rows + 32) > 1 << 28) {
      throw Error("INVALID_OPTION", "sequences x (past + rows) is more than 2^28 positions.");
    }
    parsed.push_back(c);
  }
  return parsed;
}

}  // namespace

// All that a benchmark is, without its JavaScript object: its thread refers to it by plain pointer. It outlives the
// thread, as ModelCore does.
class BenchmarkCore {
 public:
  BenchmarkCore(Napi::Env env, bench::Target target, std::variant<GemmOptions, std::vector<AttentionCase>> work)
      : js(env), target_(std::move(target)), work_(std::move(work)) {
    napi_add_env_cleanup_hook(env, environment_ends, this);
  }

  // JavaScript thread. `done` is called on the benchmark's own, with what the machine is or an error.
  void start(std::function<void(Fill)> on_result, std::function<void(Fill, std::unique_ptr<Error>)> done) {
    if (thread_.joinable()) throw Error("INTERNAL", "A benchmark runs once.");
    thread_ = std::thread([this, on_result = std::move(on_result), done = std::move(done)] {
      Fill machine;
      std::unique_ptr<Error> error;
      try {
        machine = measure(on_result);
      } catch (const Error& failure) {
        error = std::make_unique<Error>(failure);
      } catch (const std::bad_alloc&) {
        error = std::make_unique<Error>("OUT_OF_MEMORY", "The host has no memory left for this benchmark.");
      } catch (const std::exception& failure) {
        error = std::make_unique<Error>("INTERNAL", std::string("The benchmark failed: ") + failure.what());
      }
      done(std::move(machine), std::move(error));
    });
  }

  void abort() { control_.cancelled = true; }

  // JavaScript thread: ends the measuring and waits for it.
  void shutdown(Napi::Env env) {
    stop();
    if (environment_ended_) return;
    napi_remove_env_cleanup_hook(env, environment_ends, this);
    js.release();
  }

  JsThread js;

 private:
  static void environment_ends(void* data) {
    auto* core = static_cast<BenchmarkCore*>(data);
    core->environment_ended_ = true;
    core->stop();
  }

  void stop() {
    abort();
    if (thread_.joinable()) thread_.join();
  }

  Fill measure(const std::function<void(Fill)>& on_result) {
    const auto report = [&](const auto& result) { on_result(filler(result)); };
    return std::visit(Overloaded{
                          [&](const GemmOptions& options) {
                            return machine_filler(bench::measure_gemm(target_, options, control_, report));
                          },
                          [&](const std::vector<AttentionCase>& cases) {
                            return machine_filler(bench::measure_attention(target_, cases, control_, report));
                          },
                      },
                      work_);
  }

  bench::Target target_;
  std::variant<GemmOptions, std::vector<AttentionCase>> work_;
  bench::Control control_;
  std::thread thread_;
  bool environment_ended_ = false;
};

void NativeBenchmark::init(Napi::Env env, Napi::Object exports) {
  exports["NativeBenchmark"] = DefineClass(env, "NativeBenchmark",
                                           {
                                               InstanceMethod<&NativeBenchmark::run>("run"),
                                               InstanceMethod<&NativeBenchmark::abort>("abort"),
                                           });
}

NativeBenchmark::NativeBenchmark(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    const Napi::Object spec = to_object(info[0], "spec");
    bench::Target target{to_string(property(spec, "device"), "device"), parse_number_formats(spec)};
    const std::string kind = to_string(property(spec, "kind"), "kind");
    if (kind == "gemm") {
      core_ = std::make_unique<BenchmarkCore>(info.Env(), std::move(target), parse_gemm(spec));
    } else if (kind == "attention") {
      core_ = std::make_unique<BenchmarkCore>(info.Env(), std::move(target), parse_attention(spec));
    } else {
      throw Error("INVALID_OPTION", "There is no benchmark '" + kind + "'.");
    }
  });
}

NativeBenchmark::~NativeBenchmark() {
  if (core_) core_->shutdown(Env());
}

Napi::Value NativeBenchmark::run(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto deferred = Napi::Promise::Deferred::New(env);
  const auto on_result = std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));
  const auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info.This().As<Napi::Object>()));
  BenchmarkCore* core = core_.get();

  const auto report = [core, on_result](Fill fill) {
    core->js.post([on_result, fill = std::move(fill)](Napi::Env env) {
      Napi::Object result = Napi::Object::New(env);
      fill(result);
      on_result->Call({result});
    });
  };
  const auto done = [core, deferred, on_result, self](Fill machine, std::unique_ptr<Error> error) {
    const std::shared_ptr<Error> failure = std::move(error);
    core->js.post([core, deferred, on_result, self, machine = std::move(machine), failure](Napi::Env env) {
      on_result->Reset();
      self->Reset();
      core->js.end(env);
      if (failure) {
        deferred.Reject(to_javascript(env, *failure).Value());
        return;
      }
      Napi::Object result = Napi::Object::New(env);
      machine(result);
      deferred.Resolve(result);
    });
  };
  guarded(env, [&] { core->start(report, done); });
  core->js.begin(env);
  return deferred.Promise();
}

void NativeBenchmark::abort(const Napi::CallbackInfo&) { core_->abort(); }

}  // namespace billfish
